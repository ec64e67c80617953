"""Placeholders that the model copies in place of protected words, and the words back in its translation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .protected_words import ProtectedWord, blank, blank_out
from .signs import fold, unfold
from .tag_pairs import pairs_of_tags

if TYPE_CHECKING:
    from ..splitting import Span

STYLES: tuple[Callable[[int], str], ...] = (  # tried one after the other; translators copy each at about 99.5 %
    "X{}".format,
    "xq{}".format,
    lambda n: "XQ" + chr(ord("A") + (n - 1) % 26) * (1 + (n - 1) // 26),
    "X-{}".format,
    "7{}41".format,
)


@dataclass(frozen=True)
class MaskedText:
    """Text as the model reads it.

    Args:
        text: with placeholders. source: without. masked: (placeholder, word) in their order.
        visible: protected words that the model reads as they are. folded: typographic signs that it reads as plain
            ones.
    """

    text: str
    source: str
    masked: Sequence[tuple[str, ProtectedWord]]
    visible: Sequence[ProtectedWord]
    folded: frozenset[str]

    def lost(self, translation: str) -> list[ProtectedWord]:
        """Return the words that a translation does not have exactly once, or tags out of their order."""
        places = [(word, [m.start() for m in _pattern(mark).finditer(translation)]) for mark, word in self.masked]
        lost = [word for word, own in places if len(own) != 1]
        tags = [own[0] for word, own in places if word.markup and len(own) == 1]
        if tags != sorted(tags):
            lost += [word for word, _ in places if word.markup and word not in lost]
        lost += self._lost_visible(translation)
        return lost or self._emptied_tags(translation)

    def _emptied_tags(self, translation: str) -> list[ProtectedWord]:
        """Return the pairs of tags with text between them in the source and none in a translation that has all tags."""
        own = [(_pattern(mark), word) for mark, word in self.masked]
        own += [(re.compile(re.escape(word.target)), word) for word in self.visible]
        tags = sorted(((pattern, word) for pattern, word in own if word.markup), key=lambda tag: tag[1].start)
        plain = blank_out(self.source, [word for _, word in tags])
        places = _places(tags, translation)
        rest = blank(translation, places)
        emptied: list[ProtectedWord] = []
        for first, last in pairs_of_tags([word.source for _, word in tags]):
            inside = plain[tags[first][1].end : tags[last][1].start]
            if _has_signs(inside) and not _has_signs(rest[places[first][1] : places[last][0]]):
                emptied += [tags[first][1], tags[last][1]]
        return emptied

    def _lost_visible(self, translation: str) -> list[ProtectedWord]:
        lost = []
        for target in dict.fromkeys(word.target for word in self.visible):
            same = [word for word in self.visible if word.target == target]
            flags = re.RegexFlag(0) if same[0].source == target else re.IGNORECASE  # a glossary's term may be inflected
            found = len(re.findall(_bounded(target), translation, flags))
            if found < len(same) or (found > len(same) and same[0].source == target):
                lost += same
        return lost

    def restore(self, translation: str) -> str:
        """Return a translation with the words in place of their placeholders, and its source's typographic signs."""
        translation = unfold(translation, self.source, self.folded)
        for mark, word in self.masked:
            before, after = (r"\s*" if glued else "" for glued in _glued(self.source, word))
            pattern = re.compile(before + _pattern(mark).pattern + after)
            translation = pattern.sub(lambda _, own=word: own.target, translation)  # type: ignore[misc]
        return translation


def mask(
    text: str, words: Sequence[ProtectedWord], folded: frozenset[str], style: Callable[[int], str], every: bool
) -> MaskedText:
    """Return a text with placeholders for its unknown words, or for every protected word."""
    pieces: list[str] = []
    masked: list[tuple[str, ProtectedWord]] = []
    position, number = 0, 0
    for word in words:
        if not (every or word.unknown):
            continue
        number += 1
        while _pattern(style(number)).search(text):
            number += 1
        mark = style(number)
        before, after = (" " if glued else "" for glued in _glued(text, word))
        pieces += [fold(text[position : word.start], folded), before, mark, after]
        masked.append((mark, word))
        position = word.end
    visible = [] if every else [word for word in words if not word.unknown]
    return MaskedText("".join([*pieces, fold(text[position:], folded)]), text, masked, visible, folded)


def _places(tags: Sequence[tuple[re.Pattern[str], ProtectedWord]], translation: str) -> list[Span]:
    """Return the place of each tag; the second of two equal tags has the second place."""
    seen: Counter[re.Pattern[str]] = Counter()
    places = []
    for pattern, _ in tags:
        found = [match.span() for match in pattern.finditer(translation)]
        places.append(found[min(seen[pattern], len(found) - 1)])
        seen[pattern] += 1
    return places


def _has_signs(text: str) -> bool:
    return any(sign.isalnum() for sign in text)


def _glued(text: str, word: ProtectedWord) -> tuple[bool, bool]:
    """Return whether a tag stands at a word of the text without a space, before and after the tag."""
    if not word.markup:
        return False, False
    return not text[word.start - 1 : word.start].isspace() and word.start > 0, text[word.end : word.end + 1].isalnum()


def _pattern(mark: str) -> re.Pattern[str]:
    """Return the pattern of a placeholder that is no part of a longer one, also beside letters of other scripts."""
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(mark)}(?![A-Za-z0-9])")


def _bounded(text: str) -> str:
    """Return the pattern of a text that is no part of a longer word."""
    before = r"(?<!\w)" if text[:1].isalnum() else ""
    after = r"(?!\w)" if text[-1:].isalnum() else ""
    return f"{before}{re.escape(text)}{after}"
