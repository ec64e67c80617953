"""Import of optional packages of training at first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import UnsupportedOption

INSTALL = 'python -m pip install "multihead[train]"'


def optional(module: str, package: str, purpose: str, install: str = INSTALL) -> Any:
    """Import a module of an optional package.

    Args:
        purpose: what needs the package, for the message. install: command that installs the package.

    Raises:
        UnsupportedOption: the module cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UnsupportedOption(f"{purpose} needs {package}, which cannot be imported ({error}): {install}.") from error
