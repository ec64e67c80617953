"""The parts of an answer that new text adds: reasoning, content, tool calls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a tool call.

    Attributes:
        index: number of the call in the answer. name: given once, in the first piece of the call.
        arguments: piece of the JSON text of the arguments.
    """

    index: int
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ParsedDelta:
    """Parts that new text adds to an answer."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[CallDelta, ...] = ()


class Text:
    """Content or reasoning that is being written, without the white space that belongs to the markers around it.

    White space waits for the text behind it. A marker that is passed drops the space at the beginning of the whole
    text and at its end, not between two parts of it.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []  # not given out yet
        self.space: list[str] = []  # waits
        self.any = self.marked = False  # text was written; a marker came after it

    def write(self, text: str) -> None:
        bare = text.rstrip()
        if bare:
            if self.any or not self.marked:
                self.parts += [*self.space, bare]
            else:
                self.parts.append(bare.lstrip())
            self.space, self.any, self.marked = [], True, False
        if len(bare) < len(text):
            self.space.append(text[len(bare) :])

    def mark(self, separator: str = "") -> None:
        """Pass a marker. `separator` comes between the text before it and the text behind it."""
        self.marked = True
        if separator and self.any and not self.space:
            self.space.append(separator)

    def take(self) -> str:
        """Return the text that was written since the last time."""
        if not self.parts:
            return ""
        text, self.parts = "".join(self.parts), []
        return text

    def finish(self) -> str:
        """Return the rest of the text."""
        if not self.marked:
            self.parts += self.space
        return self.take()


class Writer:
    """The parts of an answer, given out as deltas."""

    def __init__(self) -> None:
        self.content, self.reasoning = Text(), Text()
        self.calls: dict[int, tuple[str, list[str]]] = {}  # index -> new name, and new pieces of the arguments
        self.count = 0

    def mark(self) -> None:
        """Pass a marker that separates parts of the answer."""
        self.content.mark()
        self.reasoning.mark()

    def open_call(self, name: str) -> None:
        """Begin a call: it is certain that there is one."""
        self.mark()
        self.calls[self.count] = (name, [])
        self.count += 1

    def arguments(self, text: str) -> None:
        """Append to the arguments of the last call."""
        if text:
            self.calls.setdefault(self.count - 1, ("", []))[1].append(text)

    def take(self, *, last: bool = False) -> ParsedDelta:
        """Return what is new. `last`: the text is at its end."""
        calls: tuple[CallDelta, ...] = ()
        if self.calls:
            calls = tuple([CallDelta(index, name, "".join(text)) for index, (name, text) in self.calls.items()])
            self.calls = {}
        if last:
            return ParsedDelta(self.reasoning.finish(), self.content.finish(), calls)
        return ParsedDelta(self.reasoning.take(), self.content.take(), calls)
