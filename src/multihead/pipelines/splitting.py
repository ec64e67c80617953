"""Texts cut into sentences and into sections that fit a model, so that they can be put together again as they stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Span = tuple[int, int]

SHORT = frozenset(  # words that end with a period inside a sentence
    """mr mrs ms dr prof rev sr jr st mt vs etc no nos fig figs eq eqs sec al inc ltd co corp dept est approx cf ca
    gen col sgt capt lt gov sen rep hon jan feb mar apr jun jul aug sep sept oct nov dec vol pp ed eds bzw ca z.b d.h
    u.a usw evtl ggf nr str e.g i.e a.m p.m u.s u.k u.n dra sra av""".split()
)
END = re.compile(r"""([.!?…]+["'”’»)\]]*)(\s+)|([。！？]+[」』”’）]*)""")
WORD_BEFORE = re.compile(r"[\w.]+$")


def sentences(text: str) -> list[Span]:
    """(start, end) of each sentence, without the white space around it; a line's end always ends one."""
    found: list[Span] = []
    start = 0
    for line in text.splitlines(keepends=True):
        found += [(start + a, start + b) for a, b in _of_line(line)]
        start += len(line)
    return found


def _of_line(line: str) -> list[Span]:
    spans, begin = [], 0
    for match in END.finditer(line):
        if match[3] is None and not _ends(line, match):
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


def _ends(line: str, match: re.Match[str]) -> bool:
    """Whether a sentence ends here, and not an abbreviation, an initial or a number."""
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
    return not (single or (word.isdigit() and len(word) < 3 and _begins(line, match.start(1) - len(word))))


def _begins(line: str, place: int) -> bool:
    """Whether a sentence begins at this place."""
    before = line[:place].rstrip()
    return not before or before[-1] in ".!?…"


def sections(text: str, room: int, count: Callable[[Sequence[str]], list[int]], overlap: int = 0) -> list[str]:
    """The text in runs of whole sentences of at most `room` tokens, each beginning with the last `overlap` ones before.

    A sentence of more tokens is cut between words.

    Args:
        count: tokens of each of some texts.
    """
    spans = fitting(text, sentences(text), room, count)
    sizes = count([text[before:b] for before, (_, b) in zip([0, *(b for _, b in spans)], spans, strict=False)])
    found: list[list[int]] = []
    now: list[int] = []
    total = 0
    for number, size in enumerate(sizes):
        if now and total + size > room:
            found.append(now)
            now = now[len(now) - overlap :] if overlap else []
            while now and sum(sizes[i] for i in now) + size > room:
                now = now[1:]
            total = sum(sizes[i] for i in now)
        now.append(number)
        total += size
    if now:
        found.append(now)
    return [text[spans[run[0]][0] : spans[run[-1]][1]] for run in found]


def fitting(text: str, spans: Sequence[Span], room: int, count: Callable[[Sequence[str]], list[int]]) -> list[Span]:
    """The same spans, with those of more than `room` tokens cut in two between words until they fit."""
    found: list[Span] = []
    for span, size in zip(spans, count([text[a:b] for a, b in spans]), strict=True):
        halves = halved(text, span) if size > room else None
        found += [span] if halves is None else fitting(text, halves, room, count)
    return found


def halved(text: str, span: Span) -> list[Span] | None:
    """A span in two, cut at the white space nearest its middle, or at the middle; None for a single character."""
    start, end = span
    if end - start < 2:
        return None
    middle = (start + end) // 2
    spaces = [match.span() for match in re.finditer(r"\s+", text[start:end])]
    if not spaces:
        return [(start, middle), (middle, end)]
    a, b = min(spaces, key=lambda space: abs(start + space[0] - middle))
    return [(start, start + a), (start + b, end)]
