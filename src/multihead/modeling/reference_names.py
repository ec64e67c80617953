"""The place where `compat/` registers the reference's names of parts; models ask it for names that they do not know.

Imports nothing, since it is filled when the package is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _no_names() -> Any:
    return None


_load: Callable[[], Any] = _no_names


def register(load: Callable[[], Any]) -> None:
    """Register a function that returns the module of these names, which is called on first use."""
    global _load
    _load = load


def reference_names() -> Any:
    """Return the module of the reference's names; None where none is registered."""
    return _load()
