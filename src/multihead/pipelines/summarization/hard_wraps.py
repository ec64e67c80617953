"""Lines of hard-wrapped texts, such as mails and pages of PDF files, joined to paragraphs."""

from __future__ import annotations

import re

MIN_WIDTH, MAX_WIDTH = 40, 140  # characters of the longest line of a hard-wrapped paragraph
WRAPPED = 0.8  # share of line ends where the next word had no room
ITEM = re.compile(r"\s*(?:[-*•·–|#>]|\d{1,3}[.)]|[a-z][.)])\s")  # begins a list item, heading, row or quotation
BLOCKS = re.compile(r"(\n[^\S\n]*\n\s*)")
CUT_WORD, FIRST_WORD = re.compile(r"([^\W\d_]+)-\Z"), re.compile(r"[^\W\d_]+")


def join_wrapped_lines(text: str) -> str:
    """Return a text whose paragraphs are one line each, if they were cut at a width. Other line ends stay."""
    if "\n" not in text:
        return text
    return "".join(
        join_block(part, text) if number % 2 == 0 else part for number, part in enumerate(BLOCKS.split(text))
    )


def join_block(block: str, text: str) -> str:
    """Return a block of lines as one line if it was cut at a width; else only lines that go on in lower case.

    Args:
        text: the whole text, which decides whether a word that was cut at a hyphen has one.
    """
    lines = block.split("\n")
    if len(lines) < 2 or any(ITEM.match(line) for line in lines):
        return block
    whole = is_wrapped(lines)
    joined = lines[0].rstrip()
    for line in lines[1:]:
        following = line.strip()
        goes_on = following[:1].islower() and joined[-1:] not in ".!?:;"
        if not following or not (whole or goes_on):
            joined += "\n" + line.rstrip()
        elif (cut := CUT_WORD.search(joined)) and following[:1].islower():
            word = cut[1] + (FIRST_WORD.match(following) or [""])[0]
            joined = (joined[:-1] if word.casefold() in text.casefold() else joined) + following
        else:
            joined += " " + following
    return joined


def is_wrapped(lines: list[str]) -> bool:
    """Return whether lines were cut at a width: at most of their ends the first word of the next had no room."""
    sizes = [len(line.rstrip()) for line in lines]
    width = max(sizes)
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        return False
    words = [(line.split() or [""])[0] for line in lines[1:]]
    full = [size + 1 + len(word) > width for size, word in zip(sizes, words, strict=False)]
    return sum(full) >= WRAPPED * len(full)
