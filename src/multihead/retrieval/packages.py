"""Optional packages of search, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import UnsupportedOption


def import_package(module: str, purpose: str, extra: str = "search") -> Any:
    """Import a module of an optional package.

    Args:
        purpose: what needs it, for the message. extra: of this library, which installs it.

    Raises:
        UnsupportedOption: it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UnsupportedOption(
            f"{purpose} needs {module.partition('.')[0]}, which cannot be imported ({error}): "
            f'python -m pip install "multihead[{extra}]".'
        ) from error
