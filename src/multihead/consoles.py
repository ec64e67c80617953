"""Consoles and progress bars of commands and training."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment

from .terminal import visible

if TYPE_CHECKING:
    from rich.progress import Progress


class Screen(Console):
    """Console that escapes control characters, so that output of a model, file or server cannot move the cursor."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Yield the segments of a renderable with control characters escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def screen(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console without markup and emoji codes: most texts are data, whose brackets and colons are no style."""
    return Screen(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)


def progress(console: Console, *columns: Any, **options: Any) -> Progress:
    """Return a progress bar on a console. `options` are those of rich's Progress.

    If standard output is no terminal, it is not redirected: rich would print it above the bar, on the bar's console,
    and a pipe or a file would get nothing.
    """
    from rich.progress import Progress

    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Progress(*columns, console=console, redirect_stdout=is_terminal, **options)
