"""An answer on the console while it is written."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from ...terminal import visible
from .streamed_text import CountingStreamer

FENCE = re.compile(r"^\s*(```|~~~)", re.MULTILINE)


class LiveAnswer:
    """Answer on the console while it is generated: Markdown on a terminal, else plain text.

    Finished paragraphs are printed for good. The last one alone is drawn again with each token, since lines above the
    screen could not be.
    """

    def __init__(self, console: Console, tokenizer: Any) -> None:
        self.console, self.streamer = console, CountingStreamer(tokenizer, self.show)
        self.printed = 0  # characters of finished paragraphs
        self.live = Live(console=console, refresh_per_second=12, vertical_overflow="visible")

    def show(self, text: str) -> None:
        """Add a new piece of text."""
        if not self.console.is_terminal:
            self.console.file.write(visible(text))
            self.console.file.flush()
            return
        rest = self.streamer.text[self.printed :]
        if size := finished_paragraphs(rest):
            self.live.update("")
            self.live.console.print(self._markdown(rest[:size]))
            self.printed += size
        self.live.update(LastLines(self._markdown(self.streamer.text[self.printed :])))

    def _markdown(self, text: str) -> RenderableType:
        """Return text as Markdown, after an empty line if a paragraph is before it."""
        markdown = Markdown(text, hyperlinks=False)
        return Group("", markdown) if self.printed and text.strip() else markdown

    def __enter__(self) -> LiveAnswer:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.update(self._markdown(self.streamer.text[self.printed :]))
            self.live.stop()
        else:
            self.console.file.write("\n")


class LastLines:
    """The last lines of a renderable, as many as the screen has: what is above it cannot be drawn again."""

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.renderable, options, pad=False)
        for line in lines[-max(console.height - 1, 1) :]:
            yield from line
            yield Segment.line()


def finished_paragraphs(text: str) -> int:
    """Return the characters of a Markdown text up to its last paragraph; 0 if there is one alone.

    A fenced block, and indented text after an empty line, belong to the paragraph before.
    """
    for match in reversed(list(re.finditer(r"\n\n+(?=\S)", text))):
        if len(FENCE.findall(text[: match.start()])) % 2 == 0:
            return match.end()
    return 0


@contextmanager
def no_echo() -> Iterator[None]:
    """Keep the terminal from showing typed keys, which would move the cursor of a live display."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield
        return
    import termios

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(number, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSANOW, before)
