"""Continuous batching: sequences of many requests share each forward pass."""

from .scheduler import Engine

__all__ = ["Engine"]
