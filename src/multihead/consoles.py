"""Where commands and training print."""

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
    """A console on which text moves no cursor and changes no style: what a model, a file or a server says is text."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """The pieces of something drawn, with their control characters written out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def screen(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that prints words as they are: most of them are data, whose brackets and colons mean no style."""
    return Screen(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)


def progress(console: Console, *columns: Any, **options: Any) -> Progress:
    """A bar that is drawn on a console while work lasts; `options` are those of rich's.

    Where standard output is no terminal, what is printed meanwhile stays there: rich would print it above the bar, on
    the bar's own console, and a pipe or a file would get nothing.
    """
    from rich.progress import Progress

    apart = sys.stdout is None or not sys.stdout.isatty()
    return Progress(*columns, console=console, redirect_stdout=not apart, **options)
