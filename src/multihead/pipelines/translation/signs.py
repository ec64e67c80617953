"""Typographic quotes and dashes that a vocabulary lacks: the model reads plain ones, its translation gets them back.

Masking a quotation mark would hide a sign that the model needs to understand the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FOLDED = {
    "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "‹": "'", "›": "'",
    "´": "'", "`": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-",
}  # fmt: skip
DASHES = frozenset(sign for sign, plain in FOLDED.items() if plain == "-")
WIDE_DASH = re.compile(r"(?<=\s)[-‒–—―−](?=\s)|(?<=[^\W\d])[—―](?=[^\W\d])")  # between words


def foldable(text: str, index: int) -> bool:
    """Return whether the sign at `index` may be read as a plain one; a dash beside a digit is a minus or a range."""
    sign = text[index]
    if sign not in DASHES:
        return sign in FOLDED
    return not any(beside.isdigit() for beside in (text[index - 1 : index], text[index + 1 : index + 2]))


def fold(text: str, folded: frozenset[str]) -> str:
    """Return a text with plain signs in place of `folded` typographic ones. A dash between letters gets spaces."""
    if not folded:
        return text
    plain = []
    for index, sign in enumerate(text):
        if sign not in folded:
            plain.append(sign)
        elif sign in "—―" and text[index - 1 : index].isalpha() and text[index + 1 : index + 2].isalpha():
            plain.append(" - ")
        else:
            plain.append(FOLDED[sign])
    return "".join(plain)


def unfold(translation: str, source: str, folded: frozenset[str]) -> str:
    """Return a translation with the typographic signs of its source in place of plain ones.

    Quotes are replaced where the source has only typographic ones, dashes where both have equally many.
    """
    if folded.isdisjoint(source):
        return translation
    for plain in ('"', "'"):
        translation = _unfold_quotes(translation, source, plain, folded)
    wide = list(WIDE_DASH.finditer(source))
    found = list(re.finditer(r"\s-\s", translation))
    if len(wide) == len(found):
        for dash, own in reversed(list(zip(wide, found, strict=True))):
            tight = dash.start() > 0 and not source[dash.start() - 1].isspace()
            new = dash[0] if tight else translation[own.start()] + dash[0] + translation[own.end() - 1]
            translation = translation[: own.start()] + new + translation[own.end() :]
    return translation


def _unfold_quotes(translation: str, source: str, plain: str, folded: frozenset[str]) -> str:
    """Return a translation with the opening and closing signs of its source in place of one plain quote."""
    signs = [index for index, sign in enumerate(source) if sign in folded and FOLDED.get(sign) == plain]
    if not signs or plain in source:
        return translation
    opening = _first_sign(source, [index for index in signs if _opens(source, index)])
    closing = _first_sign(source, [index for index in signs if not _opens(source, index)])
    return "".join(
        ((opening if _opens(translation, index) else closing) or opening or closing) if sign == plain else sign
        for index, sign in enumerate(translation)
    )


def _first_sign(text: str, places: Sequence[int]) -> str:
    return text[places[0]] if places else ""


def _opens(text: str, index: int) -> bool:
    """Return whether a quote at this place opens: nothing, a space, a bracket or a dash stands before it."""
    return index == 0 or text[index - 1].isspace() or text[index - 1] in '([{-–—¿¡“«„"'
