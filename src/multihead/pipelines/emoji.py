"""Emoji as words, for vocabularies that have none."""

from __future__ import annotations

import unicodedata

FIRST = 0x2190  # symbols before it, such as © and °, are no pictures
JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3")  # of emoji of several characters
SKIN_TONES = range(0x1F3FB, 0x1F400)


def name_emoji(text: str) -> str:
    """Return a text with the Unicode name of each emoji in its place: "Fine 👍" becomes "Fine thumbs up sign"."""
    if text.isascii():
        return text
    parts, named = [], False
    for character in text:
        if ord(character) in SKIN_TONES or (character in JOINERS and named):
            continue
        name = unicodedata.name(character, "") if is_emoji(character) else ""
        if named and not name and not character.isspace():
            parts.append(" ")
        if name and parts and not parts[-1][-1].isspace():
            parts.append(" ")
        parts.append(name.lower() or character)
        named = bool(name)
    return "".join(parts)


def is_emoji(character: str) -> bool:
    """Return whether a character is a picture."""
    return ord(character) >= FIRST and unicodedata.category(character) == "So"
