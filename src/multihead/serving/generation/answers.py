"""The parts of an answer; without a parser of a model's format, all text is content."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a tool call; `name` is in the first one alone."""

    index: int
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ParsedDelta:
    """What new text adds to an answer."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[CallDelta, ...] = ()


class OutputParser:
    """Passes text on as content."""

    kept_tokens: tuple[str, ...] = ()

    def feed(self, text: str) -> ParsedDelta:
        return ParsedDelta(content=text)

    def finish(self) -> ParsedDelta:
        return ParsedDelta()
