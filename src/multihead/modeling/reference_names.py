"""The place where `compat/` registers the reference's names of parts; models ask it for names that they do not know.

Imports nothing, since it is filled when the package is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _no_names() -> Any:
    return None


_load: Callable[[], Any] = _no_names
_shown = True


def register(load: Callable[[], Any]) -> None:
    """Register a function that returns the module of these names, which is called on first use."""
    global _load
    _load = load


def reference_names() -> Any:
    """Return the module of the reference's names; None where none is registered."""
    return _load()


def use_reference_names(whether: bool = True) -> None:
    """Let `named_modules`, `named_parameters` and `state_dict` of all models have the reference's names, or ours.

    They have the reference's unless a program asks for ours. Files and attributes are the same either way.
    """
    global _shown
    _shown = whether


def are_shown() -> bool:
    """Return whether models show the reference's names."""
    return _shown
