"""Pretrained models: Auto classes, loading, saving, forward passes over padded tensors."""
