"""Passages of plain text and Markdown: lines, lists, tables and hard-wrapped paragraphs. All else stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .units import Passage

LAYOUTS = ("text", "markdown", "html")
MARK = r"(?:[-*+•‣▪◦·–—]|\d{1,3}[.)]|[a-z][.)]|\(\w{1,2}\)|:|\[\^[^\]\s]+\]:)[ \t]+(?:\[[ xX]\][ \t]+)?"
PREFIX = re.compile(rf"(?P<quote>[ \t]*(?:>[ \t]?)*)(?P<indent>[ \t]*)(?P<mark>#{{1,6}}[ \t]+|{MARK})?")
FENCE = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*(?P<fence>`{3,}|~{3,})")
TABLE_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)*")
COLUMNS = re.compile(r"\t+[ \t]*| [ \t]*\t[ \t]*| {3,}")
CELLS = re.compile(r"(?<!\\)\|")
SENTENCE_END = re.compile(r"[.!?…:;।؟۔][\"'”’»)\]]*$")
MIN_WIDTH = 40  # characters of the longest line of a hard-wrapped paragraph at least
MARKDOWN_INLINE = re.compile(
    r"\[\^[^\]\s]+\]|!?\[(?=[^\]]*\][(\[])|\]\[[^\]]*\]|\]\([^()\s]*(?:\s\"[^\"]*\")?\)|\*{1,3}|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)|~~"
)
MARKDOWN_BLOCK = re.compile(r"[ \t]*(?:\[(?!\^)[^\]]+\]:[ \t]|<!--|</?[A-Za-z][^>]*>[ \t]*$)")


@dataclass(frozen=True)
class Line:
    """Line of a text.

    Args:
        start: its place. text: without its line end. body: place in `text` where its words begin, after the prefix.
        quote: quotation marks of e-mails and Markdown before it. mark: bullet, number or heading before its words.
    """

    start: int
    text: str
    body: int
    quote: str
    mark: str

    @property
    def words(self) -> str:
        return self.text[self.body :].strip()

    @property
    def begin(self) -> int:
        return self.start + self.body

    @property
    def end(self) -> int:
        return self.start + len(self.text.rstrip())


def text_passages(text: str, markdown: bool = False) -> list[Passage]:
    """Return the passages of a text in their order.

    Each line is a passage, without bullets, numbers and quotation marks before it. Cells of a table and columns between
    tabs or three spaces are passages. Lines of a hard-wrapped paragraph are one, wrapped to its width afterwards.
    Fenced code is none.

    Args:
        markdown: lines of a paragraph are always one; links, emphasis, definitions, HTML blocks and indented code stay.
    """
    passages: list[Passage] = []
    for block in blocks_of(text, markdown):
        if is_table(block):
            passages += [cell for line in block for cell in cells_of(line)]
        elif len(block) > 1 and (is_paragraph(block) if markdown else is_hard_wrapped(block)):
            passages.append(paragraph(block))
        else:
            passages += [column for line in block for column in columns_of(line)]
    if markdown:
        for passage in passages:
            passage.markup = [match.span() for match in MARKDOWN_INLINE.finditer(passage.text)]
    return passages


def blocks_of(text: str, markdown: bool) -> Iterator[list[Line]]:
    """Yield runs of lines that may belong together: no blank line, rule, code, heading or new list item in them."""
    block: list[Line] = []
    for line in prose_lines(text, markdown):
        if line is None:
            if block:
                yield block
            block = []
            continue
        if block and (line.mark or line.quote.strip() != block[-1].quote.strip() or block[-1].mark.startswith("#")):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def prose_lines(text: str, markdown: bool) -> Iterator[Line | None]:
    """Yield the lines that are translated, and None where others stand between them."""
    fence, start, code, blank = "", 0, False, True
    front = markdown and text.startswith("---\n")
    for number, full in enumerate(text.splitlines(keepends=True)):
        raw = full.rstrip("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        match, found = FENCE.match(raw), read_line(raw, start)
        start += len(full)
        if front:
            front = not (number > 0 and raw in ("---", "..."))
            yield None
        elif fence:
            closes = match is not None and match["fence"].startswith(fence) and not raw[match.end() :].strip()
            fence = "" if closes else fence
            yield None
        elif match is not None:
            fence = match["fence"]
            yield None
        elif markdown and (MARKDOWN_BLOCK.match(raw) or (code := is_indented_code(found, code or blank))):
            yield None
        else:
            yield found if any(sign.isalnum() for sign in found.words) or TABLE_RULE.fullmatch(raw) else None
        blank = not raw.strip()


def is_indented_code(line: Line, may_begin: bool) -> bool:
    """Return whether a line of Markdown is code by its indent of four spaces, after a blank line or other code."""
    return may_begin and not line.mark and line.text.startswith(("    ", "\t"))


def read_line(raw: str, start: int) -> Line:
    """Return a line with its marks of quotations and lists."""
    match = PREFIX.match(raw)
    assert match is not None  # every part is optional
    return Line(start, raw, match.end(), match["quote"], match["mark"] or "")


def is_table(block: Sequence[Line]) -> bool:
    """Return whether lines are a table: they have a rule, or all begin and end with a bar."""
    rows = [line.text.strip() for line in block]
    if all(row.startswith("|") and row.endswith("|") and len(row) > 2 for row in rows):
        return True
    return len(rows) > 1 and "|" in rows[0] and "-" in rows[1] and TABLE_RULE.fullmatch(rows[1]) is not None


def cells_of(line: Line) -> Iterator[Passage]:
    """Yield the cells of a row, without empty cells and rules."""
    if TABLE_RULE.fullmatch(line.text):
        return
    position = 0
    for match in [*CELLS.finditer(line.text), None]:
        end = match.start() if match else len(line.text)
        yield from passage_of(line, position, end)
        position = match.end() if match else end


def columns_of(line: Line) -> Iterator[Passage]:
    """Yield the parts of a line between tabs or three spaces."""
    position = line.body
    for match in COLUMNS.finditer(line.text, line.body):
        yield from passage_of(line, position, match.start())
        position = match.end()
    yield from passage_of(line, position, len(line.text))


def passage_of(line: Line, start: int, end: int) -> Iterator[Passage]:
    """Yield a part of a line as passage, if it has letters or digits."""
    text = line.text[start:end]
    if not any(sign.isalnum() for sign in text):
        return
    left = start + len(text) - len(text.lstrip())
    yield Passage(line.start + left, line.start + left + len(text.strip()), text.strip())


def is_hard_wrapped(block: Sequence[Line]) -> bool:
    """Return whether lines are one paragraph: no line had room for the next word, and sentences run on.

    Verses, addresses and lists of names begin each line with a capital, or leave room.
    """
    width = max(len(line.text.rstrip()) for line in block)
    if width < MIN_WIDTH or any(COLUMNS.search(line.text, line.body) for line in block):
        return False
    runs_on, begins_anew = 0, 0
    for line, following in pairwise(block):
        word = following.words.split()[0] if following.words else ""
        if not word or len(line.text.rstrip()) + 1 + len(word) <= width:
            return False
        if SENTENCE_END.search(line.words):
            continue
        first = next((sign for sign in word if sign.isalnum()), "")
        if first.isupper():
            begins_anew += 1
        else:
            runs_on += 1
    return runs_on > 0 and runs_on >= begins_anew


def is_paragraph(block: Sequence[Line]) -> bool:
    """Return whether lines of Markdown are one paragraph: none ends with a line break."""
    return not any(line.text.endswith(("  ", "\\")) for line in block[:-1])


def paragraph(block: Sequence[Line]) -> Passage:
    """Return lines as one passage, which is wrapped to their width again."""
    text = ""
    for line in block:
        glued = text.endswith("-") and text[-2:-1].isalpha() and line.words[:1].islower()
        text += line.words if not text or glued else " " + line.words
    width = max(len(line.text.rstrip()) for line in block)
    first = block[0]
    indent = block[1].text[: block[1].body]
    return Passage(first.begin, block[-1].end, text, width=width, first_width=width - first.body, indent=indent)
