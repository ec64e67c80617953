"""Compares what two models compute, whatever their configs say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.own_names import own_modules

PLAIN = (bool, int, float, str, bytes, complex, type(None), torch.dtype)
LEFT_OUT = frozenset(("_modules", "_buffers", "_parameters", "config", "training"))  # compared otherwise, or not at all


def same_structure(one: nn.Module, other: nn.Module) -> bool:
    """True if two modules have the same parts with the same attributes; parameters count by their shapes."""
    parts, others = dict(own_modules(one)), dict(own_modules(other))
    return parts.keys() == others.keys() and all(same_module(parts[name], others[name]) for name in parts)


def same_module(one: nn.Module, other: nn.Module) -> bool:
    """True for two modules of one class with the same own attributes, buffers, and shapes of parameters."""
    if type(one) is not type(other):
        return False
    shapes = [{name: x if x is None else x.shape for name, x in m._parameters.items()} for m in (one, other)]
    own = [{name: value for name, value in vars(m).items() if name not in LEFT_OUT} for m in (one, other)]
    return shapes[0] == shapes[1] and same(own[0], own[1]) and same(one._buffers, other._buffers)


def same(one: Any, other: Any) -> bool:
    """True for equal values: numbers and tensors to the accuracy of float32, objects by their attributes."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= 1e-6 * abs(one)
    if isinstance(one, PLAIN) or isinstance(other, PLAIN):
        return bool(one == other)
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and (one.is_meta or torch.allclose(one.float(), other.float(), rtol=1e-5))
    if isinstance(one, nn.Module):
        return same_structure(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (type, set, frozenset)) or not hasattr(one, "__dict__"):
        return bool(one == other)
    if isinstance(one, Callable) and hasattr(one, "__qualname__"):  # type: ignore[arg-type]
        return bool(one == other)  # functions of a module; those made inside of others differ
    return same(vars(one), vars(other))
