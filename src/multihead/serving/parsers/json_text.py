"""JSON text that arrives in pieces: what of it is valid so far."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from .source import NotACall, Reads, Source

SPACE = re.compile(r"[ \t\n\r]*")
PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
DIGITS = re.compile(r"[0-9]*")
HEX = frozenset("0123456789abcdefABCDEF")
WORDS = {"t": "true", "f": "false", "n": "null"}
NUMBER = {  # state -> character -> next state
    "-": {"0": "zero", **dict.fromkeys("123456789", "digits")},
    "zero": {".": ".", "e": "e", "E": "e"},
    "digits": {".": ".", "e": "e", "E": "e", **dict.fromkeys("0123456789", "digits")},
    ".": dict.fromkeys("0123456789", "fraction"),
    "fraction": {"e": "e", "E": "e", **dict.fromkeys("0123456789", "fraction")},
    "e": {"+": "sign", "-": "sign", **dict.fromkeys("0123456789", "exponent")},
    "sign": dict.fromkeys("0123456789", "exponent"),
    "exponent": dict.fromkeys("0123456789", "exponent"),
}
COMPLETE = frozenset({"zero", "digits", "fraction", "exponent"})  # states in which a number may end
CONTROLS = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class JsonText:
    """A JSON value that arrives in pieces. All that `read` returns is the beginning of valid JSON.

    Control characters inside strings, which models write and JSON forbids, become escapes.

    Attributes:
        done: the value is complete. broken: the text does not go on as JSON does.
    """

    def __init__(self) -> None:
        self.open: list[str] = []  # brackets that are open
        self.state, self.key = "value", False  # a string that is open is a key of an object
        self.word = ""  # the rest of true, false, null; the digits of \\u that are missing
        self.done = self.broken = False

    def read(self, text: str, at: int) -> tuple[str, int]:
        """Read a piece of text from a place; return its valid part and the place behind it."""
        parts: list[str] = []
        begin, end = at, len(text)
        while at < end and not self.done and not self.broken:
            if self.state == "string":
                at = behind(PLAIN, text, at)
                if at < end and text[at] < " ":
                    parts += [text[begin:at], CONTROLS.get(text[at]) or f"\\u{ord(text[at]):04x}"]
                    begin = at = at + 1
                elif at < end:
                    self.in_string(text[at])
                    at += 1
            elif self.state in NUMBER:
                at = self.number(text, at)
            elif self.state in ("escape", "hex", "word"):
                at += self.inside(text[at])
            else:
                at = behind(SPACE, text, at)
                if at < end:
                    at += self.between(text[at])
        parts.append(text[begin:at])
        return "".join(parts), at

    def finish(self) -> None:
        """End the text: a number may end here."""
        if not self.open and self.state in COMPLETE:
            self.done = True

    def number(self, text: str, at: int) -> int:
        """Read a number; return the place behind what belongs to it."""
        after = NUMBER[self.state].get(text[at])
        if after is not None:
            self.state = after
            return behind(DIGITS, text, at + 1) if after in COMPLETE and after != "zero" else at + 1
        if self.state in COMPLETE:
            self.end_value()
        else:
            self.broken = True
        return at

    def in_string(self, char: str) -> None:
        """Read a backslash or the closing quotation mark of a string."""
        if char == "\\":
            self.state = "escape"
        elif self.key:
            self.state, self.key = "colon", False
        else:
            self.end_value()

    def inside(self, char: str) -> int:
        """Read a character of an escape or a word; return 1 if it belongs to it, else 0."""
        if self.state == "word":
            self.broken = char != self.word[0]
            self.word = self.word[1:]
            if not self.word and not self.broken:
                self.end_value()
        elif self.state == "hex":
            self.broken = char not in HEX
            self.word = self.word[1:]
            self.state = self.state if self.word else "string"
        elif char == "u":
            self.state, self.word = "hex", "0000"
        else:
            self.broken, self.state = char not in '"\\/bfnrt', "string"
        return int(not self.broken)

    def between(self, char: str) -> int:
        """Read a character between values; return 1 if it belongs there, else 0."""
        state, closes = self.state, {"{": "}", "[": "]"}.get(self.open[-1] if self.open else "")
        if state in ("value", "first value") and char in '{["-0123456789tfn':
            self.begin_value(char)
        elif state in ("key", "first key") and char == '"':
            self.state, self.key = "string", True
        elif state == "colon" and char == ":":
            self.state = "value"
        elif state == "comma" and char == ",":
            self.state = "key" if closes == "}" else "value"
        elif state in ("comma", "first key", "first value") and char == closes:
            self.open.pop()
            self.end_value()
        else:
            self.broken = True
        return int(not self.broken)

    def begin_value(self, char: str) -> None:
        if char in "{[":
            self.open.append(char)
            self.state = "first key" if char == "{" else "first value"
        elif char == '"':
            self.state = "string"
        elif char in WORDS:
            self.state, self.word = "word", WORDS[char][1:]
        else:
            self.state = {"-": "-", "0": "zero"}.get(char, "digits")

    def end_value(self) -> None:
        self.state = "comma"
        self.done = not self.open


def behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return the place behind what a pattern matches at a place."""
    match = pattern.match(text, at)
    return match.end() if match else at


def json_value(source: Source, use: Callable[[str], None]) -> Reads[None]:
    """Consume a JSON value and pass on its valid text piece by piece.

    Raises:
        NotACall: text that is no JSON, or ends too early. What was valid is consumed and passed on before.
    """
    value = JsonText()
    while not value.done and not value.broken and (yield from source.peek()):
        text, at = value.read(source.text, source.at)
        source.take(at - source.at)
        use(text)
    value.finish()
    if not value.done:
        raise NotACall


def json_string(source: Source) -> Reads[str]:
    """Consume a JSON string and return what it says. Raises NotACall for other text."""
    if (yield from source.peek()) != '"':
        raise NotACall
    parts: list[str] = []
    yield from json_value(source, parts.append)
    text: str = json.loads("".join(parts))
    return text


def quoted(text: str) -> str:
    """Return a text as the inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
