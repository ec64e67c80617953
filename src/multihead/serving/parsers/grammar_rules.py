"""Rules of a Lark grammar in llguidance's dialect, for a tokenizer whose special tokens are no text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

ANY = r"/(.|\n)*/"
SIGNS = re.compile(r"[\\.+*?()|\[\]{}^$/&~#-]")  # of regular expressions
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as chat templates write JSON


class Rules:
    """Rules under construction.

    Args:
        special: special tokens -> ids; text cannot match them.
    """

    def __init__(self, special: Mapping[str, int]) -> None:
        self.special = special
        self.lines: list[str] = []
        self.tokens = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")

    def rule(self, body: str, name: str = "part", flags: str = "") -> str:
        """Add a rule and return its name. `flags`: such as "[lazy]"."""
        full = f"{name}_{len(self.lines)}"
        self.lines.append(f"{full}{flags}: {body}")
        return full

    def literal(self, text: str) -> str:
        """Return the expression of a text; its special tokens are named by their ids."""
        parts, at = [], 0
        for match in self.tokens.finditer(text):
            parts += [quote(text[at : match.start()]), f"<[{self.special[match[0]]}]>"]
            at = match.end()
        return " ".join(part for part in (*parts, quote(text[at:])) if part) or '""'

    def json(self, schema: Any) -> str:
        """Return the rule of JSON that fits a schema."""
        given = schema if isinstance(schema, dict) else {}
        return self.rule(f"%json {json.dumps({'x-guidance': LAYOUT, **given})}", "json")

    def until(self, end: str, least: int = 0, most: int | None = None) -> str:
        """Return the expression of any text up to `end`, which it includes.

        Args:
            least, most: numbers of characters before `end`.
        """
        times = "*" if not least and most is None else f"{{{least},{'' if most is None else most}}}"
        special = self.tokens.search(end)
        if special is not None:  # the text ends where the token comes
            text = self.rule(rf"/(.|\n){times}{pattern(end[: special.start()])}/", "TEXT")
            return f"{text} {self.literal(end[special.start() :])}"
        return self.rule(rf"/(.|\n){times}{pattern(end)}/", "until", "[lazy]")

    def free_until(self, marker: str) -> str:
        """Return the expression of any text and special tokens up to a marker, which it includes."""
        return f"{self.free_tokens(marker)} {self.until(marker)}"

    def free_without(self, marker: str) -> str:
        """Return the expression of any text and special tokens in which a marker does not come."""
        return f"{self.free_tokens(marker)} {self.text_without(marker)}"

    def free_tokens(self, marker: str) -> str:
        """Return the expression of text before special tokens, which are none of a marker's."""
        others = sorted(number for token, number in self.special.items() if token not in marker)
        if not others:
            return ""
        return f"({self.text_without(marker)} <[{','.join(map(str, others))}]>)*"

    def text_without(self, marker: str) -> str:
        """Return the rule of any text in which a marker does not come."""
        if self.tokens.search(marker):
            return self.rule(ANY, "TEXT")
        return self.rule(rf"{ANY} & ~/(.|\n)*{pattern(marker)}(.|\n)*/", "TEXT")

    def choice(self, options: Sequence[str]) -> str:
        """Return the rule of one of some expressions."""
        return options[0] if len(options) == 1 else self.rule(" | ".join(options), "choice")

    def listed(self, items: Sequence[tuple[str, bool]], separator: str) -> str:
        """Return the expression of items in their order, with a separator between; True for those that must be."""
        more, first = '""', '""'
        for item, needed in reversed(items):
            more, first = (
                self.rule(f"{quote(separator)} {item} {more}" + ("" if needed else f" | {more}"), "more"),
                self.rule(f"{item} {more}" + ("" if needed else f" | {first}"), "first"),
            )
        return first


def quote(text: str) -> str:
    """Return a text as a string of the grammar, "" for none."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def pattern(text: str) -> str:
    """Return a regular expression of a text, for a place between slashes."""
    return SIGNS.sub(r"\\\g<0>", text).replace("\n", r"\n")
