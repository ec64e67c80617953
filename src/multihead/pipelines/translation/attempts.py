"""Attempts to translate units with all their protected words: other placeholders, then in parts around the words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .placeholders import STYLES, MaskedText
from .units import Unit, is_translated

Translate = Callable[
    [Sequence[str]], Sequence[Sequence[str] | None]
]  # texts -> the sequences of each, None if too long
SENTENCE_ENDS = ".!?…。！？"


@dataclass
class UnitTranslations:
    """Translations of a unit, one a returned sequence, and what a user must know about them.

    Args:
        sequences: ids of the first attempt, which know why they ended.
    """

    texts: list[str]
    notices: list[str] = field(default_factory=list)
    sequences: Sequence[Any] = ()


def keep_words(
    units: Sequence[Unit], first: Sequence[Sequence[str]], translate: Translate, *, parts: bool
) -> list[UnitTranslations]:
    """Return the translations of units with their protected words in place.

    Each sequence is that of the first attempt that has every word. A sequence without such an attempt is translated in
    parts around the words.

    Args:
        first: the translations of each unit's first attempt, `unit.masked(0)`. translate: translates more texts.
        parts: False for models that need a whole text: words may then be lost, which the notices say.
    """
    kept: list[list[str | None]] = [_accepted(unit.masked(0), texts) for unit, texts in zip(units, first, strict=True)]
    for attempt in range(1, len(STYLES)):
        open_units = [number for number, texts in enumerate(kept) if None in texts]
        masked = [units[number].masked(attempt) for number in open_units]
        for number, text, found in zip(open_units, masked, translate([each.text for each in masked]), strict=True):
            new = _accepted(text, found) if found is not None else [None] * len(kept[number])
            kept[number] = [old if old is not None else own for old, own in zip(kept[number], new, strict=True)]
    open_units = [number for number, texts in enumerate(kept) if None in texts]
    last = [units[number] for number in open_units]
    rest = translate_parts(last, translate) if parts else [None] * len(last)
    result = {
        number: _completed(units[number], kept[number], first[number], found)
        for number, found in zip(open_units, rest, strict=True)
    }
    return [
        result.get(number) or UnitTranslations([t for t in texts if t is not None]) for number, texts in enumerate(kept)
    ]


def _accepted(masked: MaskedText, texts: Sequence[str]) -> list[str | None]:
    """Return the texts with their words restored, None for those that lost one."""
    return [None if masked.lost(text) else masked.restore(text) for text in texts]


def _completed(
    unit: Unit, kept: Sequence[str | None], first: Sequence[str], parts: Sequence[str] | None
) -> UnitTranslations:
    """Return the translations of a unit, in parts or else of the first attempt where no attempt kept all words."""
    masked = unit.masked(0)
    lost = [word.source for text, own in zip(first, kept, strict=True) if own is None for word in masked.lost(text)]
    words = ", ".join(repr(word) for word in dict.fromkeys(lost))
    if parts is not None:
        notice = f"was translated in parts around words that the model did not copy: {words}."
        return UnitTranslations([a if a is not None else b for a, b in zip(kept, parts, strict=True)], [notice])
    texts = [own if own is not None else masked.restore(text) for own, text in zip(kept, first, strict=True)]
    return UnitTranslations(texts, [f"has words that are not in the translation as they were: {words}."])


def translate_parts(units: Sequence[Unit], translate: Translate) -> list[list[str] | None]:
    """Return the translations of units whose texts between protected words are translated alone."""
    texts = [text for unit in units for text in _texts_between(unit)]
    found = iter(translate(texts))
    return [_joined_parts(unit, [next(found) for _ in _texts_between(unit)]) for unit in units]


def _texts_between(unit: Unit) -> Iterator[str]:
    return (unit.lead + part.strip() for part, word in unit.parts() if word is None and is_translated(part))


def _joined_parts(unit: Unit, translations: Sequence[Sequence[str] | None]) -> list[str] | None:
    """Return one text for each returned sequence, or None if a part has no translation."""
    known = [texts for texts in translations if texts is not None]
    if len(known) < len(translations):
        return None
    rows = zip(*known, strict=True) if known else [()]
    joined = []
    for row in rows:
        own, pieces = iter(row), []
        for part, word in unit.parts():
            translated = word is None and is_translated(part)
            pieces.append(_like_part(part, next(own)) if translated else part)
        joined.append("".join(pieces))
    return joined


def _like_part(part: str, translation: str) -> str:
    """Return the translation of a part of a sentence with the part's spaces, first case and last punctuation."""
    core, text = part.strip(), translation.strip()
    if core[0].islower() and text[:1].isupper() and not text[1:2].isupper():
        text = text[0].lower() + text[1:]
    if core[-1] not in SENTENCE_ENDS:
        text = text.rstrip(SENTENCE_ENDS)
    left, right = len(part) - len(part.lstrip()), len(part.rstrip())
    return part[:left] + text + part[right:]
