"""Splits texts into sentences and sections that fit a model, as spans, so that their layout can be restored."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Span = tuple[int, int]
CountTokens = Callable[[Sequence[str]], list[int]]

SHORT = frozenset(  # words that end with a period inside a sentence
    """mr mrs ms dr prof rev sr jr st mt vs etc no nos fig figs eq eqs sec al inc ltd co corp dept est approx cf ca
    gen col sgt capt lt gov sen rep hon jan feb mar apr jun jul aug sep sept oct nov dec vol pp ed eds bzw ca z.b d.h
    u.a usw evtl ggf nr str e.g i.e a.m p.m u.s u.k u.n dra sra av""".split()
)
END = re.compile(r"""([.!?…]+["'”’»)\]]*)(\s+)|([。！？]+[」』”’）]*)""")
WORD_BEFORE = re.compile(r"[\w.]+$")


def split_sentences(text: str) -> list[Span]:
    """Return (start, end) of each sentence, without the white space around it. A line end always ends a sentence."""
    found: list[Span] = []
    start = 0
    for line in text.splitlines(keepends=True):
        found += [(start + a, start + b) for a, b in _split_line(line)]
        start += len(line)
    return found


def _split_line(line: str) -> list[Span]:
    spans, begin = [], 0
    for match in END.finditer(line):
        if match[3] is None and not _is_end(line, match):
            continue
        spans.append((begin, match.end(1) if match[3] is None else match.end(3)))
        begin = match.end()
    spans.append((begin, len(line)))
    stripped = []
    for a, b in spans:
        piece = line[a:b]
        left = len(piece) - len(piece.lstrip())
        if piece.strip():
            stripped.append((a + left, a + len(piece.rstrip())))
    return stripped


def _is_end(line: str, match: re.Match[str]) -> bool:
    """Return whether a sentence ends here, and not only an abbreviation, an initial or a number."""
    following = line[match.end() : match.end() + 1]
    if not following:
        return True
    if following.islower():
        return False
    if match[1] != ".":
        return True
    before = WORD_BEFORE.search(line[: match.start(1)])
    word = before[0].casefold() if before else ""
    if word in SHORT:
        return False
    single = len(word) == 1 and word.isalpha() and before is not None and before[0].isupper()
    return not (single or (word.isdigit() and len(word) < 3 and _is_start(line, match.start(1) - len(word))))


def _is_start(line: str, position: int) -> bool:
    """Return whether a sentence begins at this position."""
    before = line[:position].rstrip()
    return not before or before[-1] in ".!?…"


def split_sections(text: str, most: int, count: CountTokens, overlap: int = 0) -> list[str]:
    """Split a text into sections of whole sentences with at most `most` tokens.

    A section begins with the last `overlap` sentences of the one before. A longer sentence is cut between words.

    Args:
        count: returns the number of tokens of each of some texts.
    """
    spans = split_to_fit(text, split_sentences(text), most, count)
    sizes = count([text[before:b] for before, (_, b) in zip([0, *(b for _, b in spans)], spans, strict=False)])
    found: list[list[int]] = []
    now: list[int] = []
    total = 0
    for number, size in enumerate(sizes):
        if now and total + size > most:
            found.append(now)
            now = now[len(now) - overlap :] if overlap else []
            while now and sum(sizes[i] for i in now) + size > most:
                now = now[1:]
            total = sum(sizes[i] for i in now)
        now.append(number)
        total += size
    if now:
        found.append(now)
    return [text[spans[run[0]][0] : spans[run[-1]][1]] for run in found]


def split_to_fit(text: str, spans: Sequence[Span], most: int, count: CountTokens) -> list[Span]:
    """Return the spans, those of more than `most` tokens cut in halves between words until they fit."""
    found: list[Span] = []
    for span, size in zip(spans, count([text[a:b] for a, b in spans]), strict=True):
        halves = halve(text, span) if size > most else None
        found += [span] if halves is None else split_to_fit(text, halves, most, count)
    return found


def halve(text: str, span: Span) -> list[Span] | None:
    """Return two halves of a span, cut at the white space nearest its middle, else at the middle.

    Returns None for a single character.
    """
    start, end = span
    if end - start < 2:
        return None
    middle = (start + end) // 2
    spaces = [match.span() for match in re.finditer(r"\s+", text[start:end])]
    if not spaces:
        return [(start, middle), (middle, end)]
    a, b = min(spaces, key=lambda space: abs(start + space[0] - middle))
    return [(start, start + a), (start + b, end)]
