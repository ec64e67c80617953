"""Packages that only training needs, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import UnsupportedOption

INSTALL = 'python -m pip install "multihead[train]"'


def optional(module: str, package: str, purpose: str, install: str = INSTALL) -> Any:
    """A module of a package that may not be there.

    Raises:
        UnsupportedOption: it cannot be imported; the message says what for, and how it is installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UnsupportedOption(f"{purpose} needs {package}, which cannot be imported ({error}): {install}.") from error
