"""Stored weights in every format (safetensors, torch, GGUF, Marian), and which stored tensor is which parameter."""
