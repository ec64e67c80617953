"""Values of notations other than JSON, passed on as JSON while they arrive."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from .json_text import quoted, to_json
from .source import Markers, NotACall, Reads, Source

DIGITS = re.compile(r"[-+0-9.eE_]+")
WORD = re.compile(r"\w+")
MARKED_KEY = re.compile(r"[^<>:,{}\[\]\n]+")
BARE = re.compile(r"[^,{}\[\]<]+")
WORDS = {"True": "true", "true": "true", "False": "false", "false": "false", "None": "null", "null": "null"}
ESCAPES = {**dict(zip("ntrbf\\'\"/", "\n\t\r\b\f\\'\"/", strict=True)), "\n": ""}
CODES = {"x": 2, "u": 4, "U": 8}  # escape -> its hexadecimal digits
JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
PYTHON_NUMBER = re.compile(r"[-+]?(?!0[0-9_])[0-9_.]+(?:[eE][-+]?[0-9]+)?")
MAX_DEPTH = 64  # brackets inside brackets


class Values:
    """Reader of values; what it reads goes to `use` as JSON.

    A value that breaks off raises NotACall. What was passed on of it is the beginning of valid JSON.
    """

    def __init__(self, source: Source, use: Callable[[str], None]) -> None:
        self.source, self.use = source, use

    def value(self, depth: int = 0) -> Reads[None]:
        """Read any value."""
        yield from self.source.space()
        first = yield from self.source.peek()
        if depth > MAX_DEPTH or not first:
            raise NotACall
        if first in "[{":
            yield from self.container(depth)
        elif first in "-+.0123456789":
            yield from self.number()
        else:
            yield from self.other()

    def container(self, depth: int) -> Reads[None]:
        """Read a list or an object."""
        first = self.source.take(1)
        close = "]" if first == "[" else "}"
        self.use(first)
        separator = ""
        self.source.hold()
        while not (yield from self.source.accept(close, space=True)):
            if separator:
                yield from self.source.expect(",", space=True)
                if (yield from self.source.accept(close, space=True)):
                    break
            if first == "{":
                yield from self.source.space()
                key = yield from self.key()
                yield from self.source.expect(":", space=True)
                self.use(f"{separator}{key}: ")
            else:
                self.use(separator)
            self.source.release()
            yield from self.value(depth + 1)
            self.source.hold()
            separator = ", "
        self.source.release()
        self.use(close)

    def number(self) -> Reads[None]:
        parts: list[str] = []
        self.source.hold()
        yield from self.source.while_in(DIGITS, parts.append)
        self.use(json_number("".join(parts)))
        self.source.release()

    def word(self) -> Reads[None]:
        """Read a truth value or nothing."""
        parts: list[str] = []
        self.source.hold()
        yield from self.source.while_in(WORD, parts.append)
        if "".join(parts) not in WORDS:
            raise NotACall
        self.source.release()
        self.use(WORDS["".join(parts)])

    def key(self) -> Reads[str]:
        """Read a key of an object and return it as JSON."""
        raise NotImplementedError

    def other(self) -> Reads[None]:
        """Read a string or a word."""
        raise NotImplementedError


class PythonValues(Values):
    """Values as Python writes them."""

    def key(self) -> Reads[str]:
        parts: list[str] = []
        yield from PythonValues(self.source, parts.append).string()
        return "".join(parts)

    def other(self) -> Reads[None]:
        yield from self.string() if (yield from self.source.peek()) in "'\"" else self.word()

    def string(self) -> Reads[None]:
        """Read a string in quotation marks, single or triple."""
        source = self.source
        quote = yield from source.expect("'''", '"""', "''", '""', "'", '"')
        self.use('"')
        if len(quote) != 2:  # two quotation marks are an empty string
            stops = Markers(quote, "\\")
            while (stop := (yield from source.until(stops, lambda text: self.use(quoted(text))))) != quote:
                if not stop:
                    raise NotACall
                yield from self.escape()
        if len(quote) != 2:
            source.take(len(quote))
        self.use('"')

    def escape(self) -> Reads[None]:
        """Read a backslash and what it stands for; Python keeps a backslash that stands for nothing."""
        source = self.source
        keep = source.held is None
        if keep:
            source.hold()
        source.take(1)
        if not (yield from source.peek()):
            raise NotACall
        char = source.take(1)
        if char in CODES:
            digits = ""
            while len(digits) < CODES[char] and (yield from source.peek()):
                digits += source.take(1)
            self.use(code_point(digits, CODES[char]))
        else:
            self.use(quoted(ESCAPES.get(char, "\\" + char)))
        if keep:
            source.release()


class MarkedValues(Values):
    """Values as Gemma writes them: keys without quotation marks, strings between markers.

    Args:
        quote: the marker around strings.
    """

    def __init__(self, source: Source, use: Callable[[str], None], quote: str) -> None:
        super().__init__(source, use)
        self.quote = quote

    def key(self) -> Reads[str]:
        marked = yield from self.source.accept(self.quote)
        key = yield from self.source.name(MARKED_KEY)
        if marked:
            yield from self.source.expect(self.quote)
        return to_json(key.strip())

    def other(self) -> Reads[None]:
        if not (yield from self.source.accept(self.quote)):
            yield from self.bare()
            return
        self.use('"')
        end = Markers(self.quote)
        if not (yield from self.source.until(end, lambda text: self.use(quoted(text)))):
            raise NotACall
        self.source.take(len(self.quote))
        self.use('"')

    def number(self) -> Reads[None]:
        """Read a number, or a text that begins like one, such as a date."""
        yield from self.bare()

    def bare(self) -> Reads[None]:
        """Read a number, a truth value, nothing, or a text without marks."""
        parts: list[str] = []
        self.source.hold()
        yield from self.source.while_in(BARE, parts.append)
        text = "".join(parts).strip()
        known = text if JSON_NUMBER.fullmatch(text) else WORDS.get(text)
        if not text or not (known or (yield from self.source.peek())):  # at the end of the text, more may be missing
            raise NotACall
        self.source.release()
        self.use(known or to_json(text))


def json_number(text: str) -> str:
    """Return a number of Python as JSON. Raises NotACall."""
    if JSON_NUMBER.fullmatch(text):
        return text
    if PYTHON_NUMBER.fullmatch(text):
        try:
            value = int(text) if text.lstrip("+-").replace("_", "").isdigit() else float(text)
        except ValueError as error:  # underscores at wrong places, or more digits than Python reads
            raise NotACall from error
        if math.isfinite(value):
            return to_json(value)
    raise NotACall


def code_point(digits: str, count: int) -> str:
    """Return the character of an escape as the inside of a JSON string. Raises NotACall."""
    try:
        code = int(digits, 16)
        if len(digits) != count or not digits.isalnum():
            raise NotACall
        return f"\\u{code:04x}" if 0xD800 <= code < 0xE000 else quoted(chr(code))
    except (ValueError, OverflowError) as error:
        raise NotACall from error
