"""Passages of a long text, and how well the words of a question fit each of them."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence

from ..splitting import Span, split_sentences

LEAST, MOST = 200, 800  # characters: a blank line ends a passage from LEAST on; MOST is about a long paragraph
STEM = 5  # letters of a word that must agree: "discover", "discovered" and "discovery" are one term
WORD = re.compile(r"\w+")
BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def split_passages(text: str, most: int = MOST) -> list[Span]:
    """Return (start, end) of passages of whole sentences. Together they cover the text.

    A passage ends at a blank line or before it would be longer than `most` characters; a longer sentence is a passage.
    """
    begins: list[int] = []
    start, last = 0, 0  # of the passage; end of its last sentence
    for a, b in split_sentences(text):
        ended = a - start >= min(LEAST, most) and BLANK_LINE.search(text, last, a) is not None
        if begins and not ended and b - start <= most:
            last = b
            continue
        start, last = (a if begins else 0), b
        begins.append(start)
    return list(zip(begins, [*begins, len(text)][1:], strict=True))


def terms(text: str) -> set[str]:
    """Return the terms of a text: beginnings of its words, or pairs of characters in scripts without spaces."""
    found: set[str] = set()
    for word in WORD.findall(text.casefold()):
        if UNSPACED.search(word):
            found.update(word[n : n + 2] for n in range(max(len(word) - 1, 1)))
        else:
            found.add(word[:STEM])
    return found


def term_coverage(question: str, passages: Sequence[str]) -> list[float]:
    """Return how much of a question each passage repeats: 0 to 1.

    A term counts by its inverse document frequency (Spärck Jones, 1972) among the passages.
    """
    wanted, given = terms(question), [terms(passage) for passage in passages]
    weights = {term: math.log(1 + len(given) / (sum(term in own for own in given) + 0.5)) for term in wanted}
    total = sum(weights.values())
    if not total:
        return [0.0] * len(given)
    return [sum(weights[term] for term in wanted & own) / total for own in given]


def passage_numbers(spans: Sequence[Span], positions: Sequence[int]) -> list[int]:
    """Return the number of the passage that holds each character position."""
    begins = [begin for begin, _ in spans]
    return [max(bisect_right(begins, position) - 1, 0) for position in positions]


def choose_passages(question: str, text: str, sizes: Sequence[int], spans: Sequence[Span], room: int) -> list[int]:
    """Return the numbers of the passages that cover a question best and fit together, in the order of the text.

    Args:
        sizes: tokens of each passage. room: tokens of all that are chosen. The best passage is chosen even if it is
            longer.
    """
    coverage = term_coverage(question, [text[a:b] for a, b in spans])
    order = sorted(range(len(spans)), key=lambda number: -coverage[number])
    chosen, left = order[:1], room - sum(sizes[number] for number in order[:1])
    for number in order[1:]:
        if sizes[number] <= left:
            chosen.append(number)
            left -= sizes[number]
    return sorted(chosen)
