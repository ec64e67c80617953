"""Activations by the names that checkpoints use, as C++ and Triton number them."""

ACTIVATIONS = {  # name -> number in native/vectors.h and triton/programs.py
    "relu": 1, "gelu": 2, "gelu_new": 3, "gelu_fast": 3, "gelu_pytorch_tanh": 3, "silu": 4, "swish": 4,
    "quick_gelu": 5, "tanh": 6, "sigmoid": 7, "relu2": 8,
}  # fmt: skip
