"""Where the commands print."""

from __future__ import annotations

from rich.console import Console


def screen(*, stderr: bool = False) -> Console:
    """A console that prints words as they are: most of them are data, whose brackets and colons mean no style."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
