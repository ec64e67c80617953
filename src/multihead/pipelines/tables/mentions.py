"""Mentions in a question: cells, numbers that cells are compared with, and names that the table lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from .cells import UNITS, YES, Column, is_empty, parse_date, parse_number
from .words import FUNCTION_WORDS, MAGNITUDES, NUMBER_WORDS, degree, plain, related, split_words, stem

FREQUENT = 1000  # different cells that share a word at most for the word to name one of them
Span = tuple[int, int]  # first word, the word after the last
MONTHS = {name: number for number, name in enumerate(
    "january february march april may june july august september october november december".split(), 1
)}  # fmt: skip


@dataclass(frozen=True)
class CellMention:
    """Words of a question that name cells of a column.

    Args:
        rows: rows of the cells. quality: 1 for the whole cell, less for a part of it or a related word.
    """

    span: Span
    column: int
    rows: frozenset[int]
    quality: float


@dataclass(frozen=True)
class NumberMention:
    """Number or date that a question compares cells with.

    Args:
        span: with the words of the comparison. operator: of the comparison; "" if cells are to be equal.
        value: without its magnitude. factor: of its magnitude, such as 1e6. unit: the word after it, if a unit.
    """

    span: Span
    operator: str
    value: float
    factor: float = 1.0
    unit: str = ""
    text: str = ""


class Vocabulary:
    """Words of the cells of a table, to find those that a question names."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.cells: list[dict[str, list[int]]] = []  # of each column: text of a cell -> its rows
        self.index: list[dict[str, list[str]]] = []  # of each column: key of a word -> texts of the cells that have it
        for column in columns:
            rows: dict[str, list[int]] = {}
            for row, cell in enumerate(column.cells):
                if not is_empty(cell):
                    rows.setdefault(cell, []).append(row)
            index: dict[str, list[str]] = {}
            for text in rows:
                for key in {key for word in split_words(text) for key in keys(word)}:
                    index.setdefault(key, []).append(text)
            self.cells.append(rows)
            self.index.append(index)

    def find(self, words: Sequence[str]) -> list[CellMention]:
        """Return all mentions of cells: whole cells, parts of cells that are names, months and years of dates."""
        found: list[CellMention] = []
        wanted = list({key: None for word in words for key in keys(word)})
        for number, column in enumerate(self.columns):
            spans: dict[tuple[Span, float], set[int]] = {}
            for text in self.candidates(number, wanted):
                for span, quality in match_cell(words, split_words(text), column):
                    spans.setdefault((span, quality), set()).update(self.cells[number][text])
            found += [CellMention(span, number, frozenset(rows), quality) for (span, quality), rows in spans.items()]
            if column.kind == "date":
                found += find_periods(words, number, column)
            if column.yes_or_no:
                found += find_names(words, number, column)
        return found

    def candidates(self, column: int, wanted: Sequence[str]) -> list[str]:
        """Return the texts of a column's cells that share a word with a question; not those of a word of very many."""
        hits = [own for key in wanted if len(own := self.index[column].get(key, [])) <= FREQUENT]
        return list(dict.fromkeys(text for own in hits for text in own))


def keys(word: str) -> set[str]:
    """Return what equal and related words have in common: the stem, its beginning, or the value of a number."""
    own = stem(word)
    number = parse_number(word) if any(map(str.isdigit, word)) else None
    return {own, own[:5], plain(word)} | ({f"={number.value}"} if number is not None else set())


def find_names(words: Sequence[str], number: int, column: Column) -> Iterator[CellMention]:
    """Yield where a question has the name of a column of yes and no: rows with yes are meant."""
    size, name = len(column.words), [stem(word) for word in column.words]
    rows = frozenset(row for row, cell in enumerate(column.cells) if plain(cell) in YES)
    for start in range(len(words) - size + 1):
        if [stem(word) for word in words[start : start + size]] == name:
            yield CellMention((start, start + size), number, rows, 1.0)


def find_periods(words: Sequence[str], number: int, column: Column) -> Iterator[CellMention]:
    """Yield months and years of a column of dates that a question names: "February", "May 2010", "2012"."""
    days = [None if value is None else date.fromordinal(int(value)) for value in column.values]
    for start, word in enumerate(words):
        month = MONTHS.get(plain(word))
        following = words[start + 1] if start + 1 < len(words) else ""
        year = following if month else word
        wanted = int(year) if re.fullmatch(r"[12]\d{3}", year) else None
        if month is None and (wanted is None or plain(words[start - 1]) in MONTHS):
            continue
        if (month and not word[:1].isupper() and word == "may") or re.fullmatch(r"\d{1,2}(st|nd|rd|th)?", following):
            continue
        rows = frozenset(
            row for row, day in enumerate(days)
            if day and (month is None or day.month == month) and (wanted is None or day.year == wanted)
        )  # fmt: skip
        yield CellMention((start, start + 1 + bool(month and wanted)), number, rows, 0.9)


def match_cell(words: Sequence[str], cell: Sequence[str], column: Column) -> Iterator[tuple[Span, float]]:
    """Yield where a question names a cell, with the quality of the match."""
    if not cell:
        return
    size = len(cell)
    whole = False
    for start in range(len(words) - size + 1):
        quality = min(map(same_word, words[start : start + size], cell))
        if size == 1 and plain(cell[0]) in FUNCTION_WORDS and words[start] != cell[0]:
            quality = 0.0  # "no" or "is" as a cell
        if quality > 0 and not (quality < 1 and column.ordered):
            whole = True
            yield (start, start + size), quality if size == 1 else min(1.0, quality)
    if whole or column.ordered or size < 2:
        return
    content = {plain(word) for word in cell if plain(word) not in FUNCTION_WORDS}
    cased = "".join(words)[:1].isupper()  # the question writes capitals
    for start, end in runs(words, content):
        if cased and words[start].islower() and cell[0][:1].isupper():
            continue  # "hours" is no part of the name "Small Hours" where the question writes names in capitals
        hit = {plain(word) for word in words[start:end]} & content
        numeric = all(re.fullmatch(r"[\d.,]+", word) or len(word) < 2 for word in hit)
        if hit and not numeric:
            yield (start, end), 0.4 + 0.5 * len(hit) / len(content)


def runs(words: Sequence[str], content: set[str]) -> Iterator[Span]:
    """Yield the longest runs of words that are all of `content`, or between two such words."""
    start = None
    for number, word in enumerate([*words, ""]):
        inside = plain(word) in content if word else False
        if inside and start is None:
            start = number
        if not inside and start is not None:
            yield start, number
            start = None


def same_word(one: str, other: str) -> float:
    """Return 1 for the same word, less for a related one; numbers are equal if their values are."""
    if plain(one) == plain(other):
        return 1.0
    a, b = parse_number(one), parse_number(other)
    if a is not None and b is not None and (any(map(str.isdigit, one)) and any(map(str.isdigit, other))):
        return 1.0 if a.value == b.value and (not a.before or not b.before or a.before == b.before) else 0.0
    if one.isalpha() and other.isalpha() and len(one) > 3 and len(other) > 3:
        return {1.0: 0.95, 0.7: 0.6}.get(related(one, other), 0.0)
    return 0.0


def find_numbers(words: Sequence[str]) -> list[NumberMention]:
    """Return the numbers and dates of a question, with the comparison that stands before or after them."""
    found = []
    number = 0
    while number < len(words):
        if number > 0 and plain(words[number]) == "no":  # "which planets have no moons"
            found.append(NumberMention((number, number + 1), "=", 0.0))
        size, value, is_date = read_value(words, number)
        if size == 0:
            number += 1
            continue
        end = number + size
        factor, unit = 1.0, ""
        if end < len(words) and plain(words[end]) in MAGNITUDES and len(plain(words[end])) > 2:
            factor, end = MAGNITUDES[plain(words[end])], end + 1
        if end < len(words) and plain(words[end]) in UNITS and not is_date:
            unit, end = plain(words[end]), end + 1
        start, operator, end = comparison(words, number, end)
        found.append(NumberMention((start, end), operator, value, factor, unit, "date" if is_date else ""))
        number = end
    return found


def read_value(words: Sequence[str], start: int) -> tuple[int, float, bool]:
    """Return the number of words of a value, the value, and whether it is a date; 0 words if there is none."""
    for size in (3, 2, 1):
        text = " ".join(words[start : start + size])
        if start + size <= len(words) and (day := parse_date(text)) and re.search(r"\d", words[start] + text):
            return size, float(day.toordinal()), True
    word = words[start]
    if any(map(str.isdigit, word)):
        known = parse_number(word.rstrip(".,:"))
        plainly = known is not None and known.after in ("", "%") and not any(map(str.isalpha, known.before))
        return (1, known.value, False) if known is not None and plainly else (0, 0.0, False)
    if (
        plain(word) in ("a", "an")
        and start
        and plain(words[start - 1]) == "than"
        and plain(words[start + 1 : start + 2][0] if words[start + 1 : start + 2] else "") in UNITS
    ):
        return 1, 1.0, False
    if plain(word) in NUMBER_WORDS and plain(word) not in ("no", "one", "zero"):
        return 1, float(NUMBER_WORDS[plain(word)]), False
    return 0, 0.0, False


def comparison(words: Sequence[str], start: int, end: int) -> tuple[int, str, int]:
    """Return the span and the operator of a comparison around the value at `start` to `end`; "" if there is none."""
    before = [plain(word) for word in words[max(start - 4, 0) : start]]
    after = [plain(word) for word in words[end : end + 3]]
    if before[-1:] == ["than"]:
        for back, word in enumerate(reversed(before[:-1]), 2):
            if (kind := degree(word)) and kind[1] == 1:
                return start - back, direction(kind[0]), end
    if before[-2:] in (["at", "least"], ["no", "less"]):
        return start - 2, ">=", end
    if before[-2:] == ["at", "most"]:
        return start - 2, "<=", end
    if before[-2:] == ["up", "to"]:
        return start - 2, "<=", end
    if before[-1:] and before[-1] in ("over", "above", "exceeding", "beyond", "after", "exceed", "exceeds"):
        return start - 1, ">", end
    if before[-1:] and before[-1] in ("under", "below", "before"):
        return start - 1, "<", end
    if before[-1:] == ["since"]:
        return start - 1, ">=", end
    if after[:2] in (["or", "more"], ["or", "older"], ["or", "later"], ["or", "higher"], ["and", "above"]):
        return start, ">=", end + 2
    if after[:2] in (["or", "less"], ["or", "fewer"], ["or", "younger"], ["or", "earlier"], ["or", "lower"]):
        return start, "<=", end + 2
    return start, "", end


def direction(adjective: str) -> str:
    """Return ">" or "<" for the comparative of an adjective."""
    from .words import ADJECTIVES

    return ">" if ADJECTIVES[adjective][1] else "<"


def unknown_names(words: Sequence[str], known: Sequence[Span], columns: Sequence[Column]) -> list[str]:
    """Return names in a question that no cell and no column has: capitalised words and codes inside the sentence."""
    taken = {n for start, end in known for n in range(start, end)}
    own = [word for column in columns for word in [*column.words, *column.notes]]
    found: list[str] = []
    last = -2
    for number, word in enumerate(words):
        bare = re.sub(r"['’]s?$", "", word)
        name = (bare[:1].isupper() and number > 0) or (
            bare.isalnum()
            and bare.upper() == bare
            and len(bare) > 2
            and any(map(str.isdigit, bare))
            and any(map(str.isalpha, bare))
        )
        if not name or number in taken or any(related(bare, each) for each in own):
            continue
        if plain(bare) in FUNCTION_WORDS or plain(bare) in MONTHS:
            continue
        if last == number - 1:
            found[-1] += f" {bare}"
        else:
            found.append(bare)
        last = number
    return found
