"""Numbers and dates in the cells of a table and in a question, as TAPAS compares them (arXiv:2004.02349).

A value is a number, or a date (year, month, day) with None for what the text does not say.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

Date = tuple[float | None, float | None, float | None]
Value = float | Date
SortKey = Callable[[Value], object]

NUMBER = re.compile(r"((^|\s)[+-])?((\.\d+)|(\d+(,\d\d\d)*(\.\d*)?))")
WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
NAMED = {word: float(number) for words in (WORDS, ORDINALS) for number, word in enumerate(words)}
SUFFIXES = ("st", "nd", "rd", "th")
YEARS = range(1700, 2017)
LONGEST_DATE = 5  # words
LEAST_SHARE = 0.7  # of a column's cells that must have a value of one kind
DATES = (  # of which the first that fits is taken; `y`, `m` and `d` are what a pattern says
    ("%B", "m"), ("%Y", "y"), ("%Ys", "y"), ("%b %Y", "ym"), ("%B %Y", "ym"), ("%B %d", "md"), ("%b %d", "md"),
    ("%d %b", "md"), ("%d %B", "md"), ("%B %d, %Y", "ymd"), ("%d %B %Y", "ymd"), ("%m-%d-%Y", "ymd"),
    ("%Y-%m-%d", "ymd"), ("%Y-%m", "ym"), ("%d %b %Y", "ymd"), ("%b %d, %Y", "ymd"), ("%d.%m.%Y", "ymd"),
    ("%A, %b %d", "md"), ("%A, %B %d", "md"),
)  # fmt: skip
FIELDS = {"%A": r"\w+", "%B": r"\w+", "%Y": r"\d{4}", "%b": r"\w{3}", "%d": r"\d{1,2}", "%m": r"\d{1,2}"}


def prefilter(pattern: str) -> re.Pattern[str]:
    """Return an expression of the texts that a pattern of dates may fit."""
    parts = re.split("(%[ABYbdm])", pattern)
    return re.compile("".join(FIELDS.get(part) or re.escape(part).replace(r"\ ", r"\s+") for part in parts) + r"\Z")


FILTERS = [(pattern, said, prefilter(pattern)) for pattern, said in DATES]


def read_number(text: str) -> float | None:
    """Return the number that a text is, or None."""
    end = next((suffix for suffix in SUFFIXES if text.endswith(suffix)), "")
    try:
        value = float(text[: len(text) - len(end)].replace(",", ""))
    except ValueError:
        return None
    return None if math.isnan(value) or value == math.inf else value


def read_date(text: str) -> Date | None:
    """Return the date that a text is, or None."""
    text = re.sub(r"Sept\b", "Sep", text)
    for pattern, said, fits in FILTERS:
        if not fits.match(text):
            continue
        try:
            date = datetime.strptime(text, pattern)
        except ValueError:
            continue
        if date.year in YEARS:
            year, month, day = (
                float(value) if name in said else None for name, value in zip("ymd", date.timetuple(), strict=False)
            )
            return year, month, day
    return None


def word_spans(text: str, most: int) -> list[tuple[int, int]]:
    """Return the spans of one to `most` words, by their ends."""
    words = [match.span() for match in re.finditer(r"[^\W_]+", text)]
    ends = enumerate(words, 1)
    return [(first, end) for last, (_, end) in ends for first, _ in words[max(last - most, 0) : last]]


def values_of(text: str) -> list[Value]:
    """Return the values in a text; a span inside a longer one counts for nothing."""
    text = " ".join(text.lower().split())
    found: dict[tuple[int, int], list[Value]] = {}
    for match in NUMBER.finditer(text):
        if (number := read_number(match.group())) is not None:
            found.setdefault(match.span(), []).append(number)
    for span in word_spans(text, 1):
        if span in found:
            continue
        word = text[slice(*span)]
        numbers = [number for number in (read_number(word), NAMED.get(word)) if number is not None]
        if numbers:
            found[span] = list(numbers)
    for span in word_spans(text, LONGEST_DATE):
        if (date := read_date(text[slice(*span)])) is not None:
            found.setdefault(span, []).append(date)
    chosen: list[tuple[int, int]] = []
    for begin, end in sorted(found, key=lambda span: (span[0] - span[1], span[0])):
        if not any(first <= begin and end <= last for first, last in chosen):
            chosen.append((begin, end))
    return [value for span in sorted(chosen) for value in found[span]]


def column_values(cells: Sequence[str]) -> dict[int, Value]:
    """Return the value of each cell of a column, by its row: of the kind that most cells have, if these suffice."""
    found = [values_of(cell) for cell in cells]
    kinds = Counter(kind for values in found for kind in {type(value) for value in values})
    if not kinds or max(kinds.values()) < len(cells) * LEAST_SHARE:
        return {}
    most = {kind for kind, count in kinds.items() if count == max(kinds.values())}
    kind = tuple if tuple in most else float
    firsts = {row: next((v for v in values if type(v) is kind), None) for row, values in enumerate(found)}
    return {row: value for row, value in firsts.items() if value is not None}


def sort_key(values: Iterable[Value]) -> SortKey | None:
    """Return what values are compared by: numbers, or the parts of a date that all have; None for nothing."""
    values = list(values)
    if len({type(value) for value in values}) != 1:
        return None
    if not isinstance(values[0], tuple):
        return lambda value: value
    parts = [part for part in range(3) if all(isinstance(v, tuple) and v[part] is not None for v in values)]
    return (lambda value: tuple(value[part] for part in parts)) if parts else None  # type: ignore[index]


def ranks(values: Mapping[int, Value]) -> dict[int, tuple[int, int]]:
    """Return each row's place among a column's values, from 1, and its place from the end."""
    key = sort_key(values.values())
    if key is None:
        return {}
    order = sorted({key(value) for value in values.values()})  # type: ignore[type-var]
    places = {value: place for place, value in enumerate(order)}
    return {row: (places[key(v)] + 1, len(order) - places[key(v)]) for row, v in values.items()}


def relations(asked: Iterable[Value], values: Mapping[int, Value]) -> dict[int, int]:
    """Return for each row how the question's values compare with its own: 1 equal, 2 less, 4 greater, and sums."""
    found: dict[int, int] = {}
    for value in asked if values else ():
        key = sort_key([*values.values(), value])
        if key is None:
            continue
        for row, own in values.items():
            one, other = key(value), key(own)
            found[row] = found.get(row, 0) | (1 if one == other else 2 if one < other else 4)  # type: ignore[operator]
    return found
