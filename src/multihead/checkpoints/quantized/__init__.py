"""Weights that a checkpoint stores quantized, as its `quantization_config` says: one class a format."""
