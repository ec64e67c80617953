"""Text that arrives in pieces, read by generators that wait for more."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Reads = Generator[None, None, T]  # a reader: it yields where it needs more text, and returns what it has read
SPACE = re.compile(r"\s+")
MAX_SPACE = 64  # characters of white space that a reader looks past
SOME_SPACE = re.compile(rf"\s{{0,{MAX_SPACE + 1}}}")
NAME = re.compile(r"[\w.:/@-]+")
KEY = re.compile(r"[^<>\"'\n]+")
MAX_NAME = 256  # characters


class NotACall(Exception):
    """The text does not go on as a call of the format does."""


class Source:
    """The text that is not read yet, and the text of a call that may turn out to be none.

    Readers consume text with `take`, and look at text before that with the generators. After `hold`, all text that is
    taken is kept, so that `give_back` returns it where the call fails. No text is read twice: the time is linear in
    the length of the text.
    """

    def __init__(self) -> None:
        self.text, self.at, self.ended = "", 0, False
        self.held: list[str] | None = None

    def add(self, text: str) -> None:
        """Append a piece of text."""
        self.text, self.at = self.text[self.at :] + text, 0

    def hold(self) -> None:
        """Keep the text that is taken from now on."""
        self.held = []

    def release(self) -> None:
        """Forget the text that was kept: it is a call."""
        self.held = None

    def give_back(self) -> str:
        """Return the text that was kept since `hold`, and keep no more."""
        text, self.held = "".join(self.held or ()), None
        return text

    @property
    def rest(self) -> str:
        return self.text[self.at :]

    def take(self, count: int) -> str:
        """Consume characters that are here already."""
        text = self.text[self.at : self.at + count]
        self.at += len(text)
        if self.held is not None:
            self.held.append(text)
        return text

    def more(self) -> Reads[bool]:
        """Wait for more text; return False at its end."""
        before = len(self.text) - self.at
        while not self.ended:
            yield
            if len(self.text) - self.at > before:
                return True
        return False

    def peek(self) -> Reads[str]:
        """Return the next character, "" at the end."""
        while self.at >= len(self.text):
            if self.ended:
                return ""
            yield
        return self.text[self.at]

    def while_in(self, pattern: re.Pattern[str], use: Callable[[str], None]) -> Reads[None]:
        """Consume all characters that a pattern of single characters matches, and pass them on piece by piece."""
        while (yield from self.peek()):
            match = pattern.match(self.text, self.at)
            if match is None:
                return
            use(self.take(match.end() - self.at))

    def space(self) -> Reads[str]:
        """Consume white space and return it."""
        found: list[str] = []
        yield from self.while_in(SPACE, found.append)
        return "".join(found)

    def follows(self, *options: str, space: bool = False) -> Reads[str]:
        """Return the longest of some texts that comes next, "" for none. Nothing is consumed.

        Args:
            space: the text may come after white space, of up to MAX_SPACE characters.
        """
        longest = max(map(len, options))
        while True:
            begin = self.after_space() if space else self.at
            if begin - self.at > MAX_SPACE:
                return ""
            rest = self.text[begin : begin + longest]
            found = max((option for option in options if rest.startswith(option)), key=len, default="")
            grows = any(len(option) > max(len(rest), len(found)) and option.startswith(rest) for option in options)
            if not grows or not (yield from self.more()):
                return found

    def accept(self, *options: str, space: bool = False) -> Reads[str]:
        """Consume the longest of some texts that comes next and return it, "" for none; arguments as `follows`."""
        found = yield from self.follows(*options, space=space)
        if found:
            self.take((self.after_space() if space else self.at) - self.at + len(found))
        return found

    def after_space(self) -> int:
        """Return the place behind the white space that comes next, of which it counts MAX_SPACE + 1 characters."""
        match = SOME_SPACE.match(self.text, self.at)
        return match.end() if match else self.at

    def expect(self, *options: str, space: bool = False) -> Reads[str]:
        """Consume one of some texts and return it; arguments as `follows`. Raises NotACall for other text."""
        found = yield from self.accept(*options, space=space)
        if not found:
            raise NotACall
        return found

    def name(self, pattern: re.Pattern[str] = NAME) -> Reads[str]:
        """Consume a name and return it. Raises NotACall where there is none, or one without end."""
        found: list[str] = []
        size = 0
        while (yield from self.peek()):
            match = pattern.match(self.text, self.at)
            if match is None:
                break
            found.append(self.take(min(match.end() - self.at, MAX_NAME - size)))
            size += len(found[-1])
            if size >= MAX_NAME:
                raise NotACall
        if not found:
            raise NotACall
        return "".join(found)

    def until(self, markers: Markers, use: Callable[[str], None]) -> Reads[str]:
        """Consume text up to a marker and pass it on piece by piece; return the marker, still there, "" at the end.

        What may be the beginning of a marker waits.
        """
        while True:
            match = markers.pattern.search(self.text, self.at)
            end = len(self.text) if self.ended else markers.hold(self.text, self.at)
            found = match is not None and match.start() < end  # else a longer marker may begin before it
            end = match.start() if match is not None and found else end
            if end > self.at:
                use(self.take(end - self.at))
            if match is not None and found:
                return match[0]
            if self.at == len(self.text) and self.ended:
                return ""
            yield from self.more()


class Markers:
    """Texts that are searched together, the longest first."""

    def __init__(self, *texts: str) -> None:
        self.texts = tuple(sorted({text for text in texts if text}, key=lambda text: (-len(text), text)))
        self.pattern = re.compile("|".join(map(re.escape, self.texts)) or r"(?!)")
        self.first = re.compile(
            "|".join(re.escape(first) for first in sorted({text[0] for text in self.texts})) or r"(?!)"
        )
        self.parts = frozenset(text[:size] for text in self.texts for size in range(1, len(text)))
        self.longest = max(map(len, self.texts), default=0)

    def hold(self, text: str, at: int) -> int:
        """Return the first place from which the rest of a text may be the beginning of a marker, or its end."""
        begin = max(at, len(text) - self.longest + 1)
        while (match := self.first.search(text, begin)) is not None:
            if text[match.start() :] in self.parts:
                return match.start()
            begin = match.start() + 1
        return len(text)
