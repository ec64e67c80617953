"""Attention layers and position biases."""
