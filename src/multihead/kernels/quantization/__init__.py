"""Quantization formats, one class each, listed in `registry`; tensors in blocks of a file; the kernels' panels."""
