"""Units of a document: what the model translates at once, and the parts around it that stay."""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .placeholders import STYLES, MaskedText, mask

if TYPE_CHECKING:
    from ..splitting import Span
    from .protected_words import ProtectedWord


@dataclass(frozen=True)
class Unit:
    """Part of a passage that is translated at once.

    Args:
        start, end: its place in the passage. text: what the model translates.
        words: protected words, with places in `text`. folded: typographic signs that the model reads as plain ones.
        before, after: protected signs around the text, such as an emoji after a sentence.
        lead: token before the text that names the target language. bare: the model reads the text as it is.
    """

    start: int
    end: int
    text: str
    words: Sequence[ProtectedWord] = ()
    folded: frozenset[str] = frozenset()
    before: str = ""
    after: str = ""
    lead: str = ""
    bare: bool = False

    def masked(self, attempt: int) -> MaskedText:
        """Return the text of an attempt: the first masks unknown words only, the others mask all protected words."""
        masked = mask(self.text, self.words, self.folded, STYLES[attempt], every=attempt > 0)
        return replace(masked, text=self.lead + masked.text)

    @property
    def has_text(self) -> bool:
        """False if the unit is nothing but protected words, numbers and signs."""
        if self.bare:
            return bool(self.text)
        return any(is_translated(part) for part, word in self.parts() if word is None)

    def parts(self) -> list[tuple[str, ProtectedWord | None]]:
        """Return the protected words and the texts between them, in their order."""
        parts: list[tuple[str, ProtectedWord | None]] = []
        position = 0
        for word in self.words:
            parts += [(self.text[position : word.start], None), (word.target, word)]
            position = word.end
        return [part for part in [*parts, (self.text[position:], None)] if part[0]]

    def frame(self, translation: str) -> str:
        return self.before + translation + self.after

    def with_targets(self) -> str:
        """Return the text with the targets of its words, nothing translated."""
        return "".join(text for text, _ in self.parts())


@dataclass
class Passage:
    """Run of text between pieces of layout.

    Args:
        start, end: its place in the document. text: what is translated, lines joined.
        width: to which its translation is wrapped, 0 for one line; `first_width` for the first line, after its prefix.
        indent: before each further line. markup: (start, end) of tags and other markup in `text`, which stay.
        escape: the text was HTML; signs of its translation become entities again.
    """

    start: int
    end: int
    text: str
    units: list[Unit] = field(default_factory=list)
    width: int = 0
    first_width: int = 0
    indent: str = ""
    markup: Sequence[Span] = ()
    escape: bool = False

    def render(self, translations: Sequence[str]) -> str:
        """Return the passage with its units replaced by their translations."""
        parts, position = [], 0
        for unit, translation in zip(self.units, translations, strict=True):
            parts += [self.text[position : unit.start], translation]
            position = unit.end
        text = "".join([*parts, self.text[position:]])
        if self.escape:
            text = self._escaped(text)
        return self._wrapped(text) if self.width else text

    def _wrapped(self, text: str) -> str:
        """Return a text in lines of the passage's width; the first one stands after a prefix of the document."""
        lines = textwrap.wrap(
            text, self.width, initial_indent=" " * (self.width - self.first_width), subsequent_indent=self.indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        return "\n".join(lines)[self.width - self.first_width :]

    def _escaped(self, text: str) -> str:
        """Return a text as HTML: entities in place of signs, tags as they were."""
        text = html.escape(text, quote=False)
        for start, end in self.markup:
            tag = self.text[start:end]
            text = text.replace(html.escape(tag, quote=False), tag)
        return text


@dataclass
class Document:
    """Text with the passages that are translated. All else stays."""

    text: str
    passages: list[Passage]

    @property
    def units(self) -> list[Unit]:
        return [unit for passage in self.passages for unit in passage.units]

    def render(self, passages: Sequence[str]) -> str:
        """Return the text with its passages replaced."""
        parts, position = [], 0
        for passage, translation in zip(self.passages, passages, strict=True):
            parts += [self.text[position : passage.start], translation]
            position = passage.end
        return "".join([*parts, self.text[position:]])


def make_units(
    text: str,
    spans: Sequence[Span],
    words: Sequence[ProtectedWord],
    folded: frozenset[str],
    lead: str = "",
    *,
    bare: bool = False,
) -> list[Unit]:
    """Return one unit for each span of a text, with the protected words in it; see `Unit` for `lead` and `bare`."""
    units = []
    for start, end in spans:
        own = [word.cut(start, end) for word in words if word.start < end and start < word.end]
        signs = folded & frozenset(text[start:end])
        unit = Unit(start, end, text[start:end], own, signs, lead=lead, bare=bare)
        units.append(unit if bare else _outer_signs_apart(unit))
    return units


def join_cut_words(spans: Sequence[Span], words: Sequence[ProtectedWord]) -> list[Span]:
    """Return spans, those joined between which a protected word would be cut."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and any(word.start < joined[-1][1] and start < word.end for word in words):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _outer_signs_apart(unit: Unit) -> Unit:
    """Return the unit without the signs and pairs of tags around its text, which the model need not see."""
    words, text = list(unit.words), unit.text
    begin, end = 0, len(text)
    before = after = ""
    while words:
        first, last = words[0], words[-1]
        leads = first.unknown and not text[begin : first.start].strip()
        trails = last.unknown and not text[last.end : end].strip()
        pair = len(words) > 1 and leads and trails and first.markup and last.markup
        if pair or (leads and _is_sign(first)):
            before += text[begin : first.start] + first.target
            begin = words.pop(0).end
        if pair or (trails and not leads and _is_sign(last)):
            after = last.target + text[last.end : end] + after
            end = words.pop().start
        if not pair and not (leads and _is_sign(first)) and not (trails and _is_sign(last)):
            break
    if not (before or after):
        return unit
    own = text[begin:end]
    left, right = len(own) - len(own.lstrip()), len(own.rstrip())
    before, after = before + own[:left], own[right:] + after
    moved = [word.cut(begin + left, end) for word in words]
    return replace(unit, text=own[left:right], words=moved, before=before, after=after)


def _is_sign(word: ProtectedWord) -> bool:
    """Return whether a word has no letters and no digits, and is no unit of measure such as "€" or "°"."""
    if word.markup or _has_letters(word.source) or re.search(r"[%‰°′″§]", word.source):
        return False
    return not any(unicodedata.category(sign) == "Sc" for sign in word.source)


def is_translated(text: str) -> bool:
    """Return whether a text between protected words has a letter: translators add words to numbers alone."""
    return any(sign.isalpha() for sign in text)


def _has_letters(text: str) -> bool:
    return any(sign.isalnum() for sign in text)
