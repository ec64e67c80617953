"""Lookup by the reference's names: parts, tensors, names and state dicts."""

from __future__ import annotations

from .part_state import named_modules, named_parameters, own_state, state_dict, uses_reference_names
from .part_tree import find_module, find_part, find_tensor, set_part, top_names

__all__ = [
    "find_module", "find_part", "find_tensor", "named_modules", "named_parameters", "own_state", "set_part",
    "state_dict", "top_names", "uses_reference_names",
]  # fmt: skip
