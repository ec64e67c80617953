"""Quantized formats that are written: how weights are rounded, and which tensors store their codes."""
