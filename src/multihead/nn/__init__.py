"""Layers on packed sequences. They import torch and kernels, and know no family."""
