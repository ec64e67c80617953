"""Cells of a table as values: numbers with their signs and units, dates, times and texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property

from .words import MAGNITUDES, plain, split_words

EMPTY = frozenset(("", "-", "–", "—", "n/a", "na", "none given", "?", "null", "nan", "tba", "tbd"))
NUMBER = re.compile(
    r"^(?P<minus>[-−(]?)\s*(?P<before>(?:[^\W\d_]{1,3}(?:\.\s?|\s)|[€$£¥₹]\s?|[A-Z]{1,2}\$\s?)?)(?P<sign>[-−+]?)"
    r"(?P<digits>\d{1,3}(?:[,.\u00a0\u202f '’]\d{3})+(?:[.,]\d+)?|\d*[.,]?\d+)(?P<close>\)?)\s*"
    r"(?P<after>[%‰€$£¥₹°]?[^\d]{0,24})$"
)
DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y", "%d.%m.%Y",
    "%d-%b-%Y", "%d-%B-%Y", "%B %Y", "%b %Y", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S",
)  # fmt: skip
SLASHED = re.compile(r"^(\d{1,2})/(\d{1,2})/(\d{4})$")
CLOCK = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]m)?$", re.IGNORECASE)
UNITS = {
    "s": ("time", 1), "sec": ("time", 1), "second": ("time", 1), "seconds": ("time", 1), "min": ("time", 60),
    "mins": ("time", 60), "minute": ("time", 60), "minutes": ("time", 60), "h": ("time", 3600), "hr": ("time", 3600),
    "hrs": ("time", 3600), "hour": ("time", 3600), "hours": ("time", 3600), "day": ("time", 86400),
    "days": ("time", 86400), "week": ("time", 604800), "weeks": ("time", 604800), "mm": ("length", 1e-3),
    "cm": ("length", 1e-2), "m": ("length", 1), "metre": ("length", 1), "metres": ("length", 1), "meter": ("length", 1),
    "meters": ("length", 1), "km": ("length", 1e3), "kilometre": ("length", 1e3), "kilometres": ("length", 1e3),
    "kilometer": ("length", 1e3), "kilometers": ("length", 1e3), "ft": ("length", 0.3048), "feet": ("length", 0.3048),
    "mile": ("length", 1609.344), "miles": ("length", 1609.344), "mi": ("length", 1609.344), "g": ("mass", 1),
    "gram": ("mass", 1), "grams": ("mass", 1), "kg": ("mass", 1e3), "kilogram": ("mass", 1e3),
    "kilograms": ("mass", 1e3), "t": ("mass", 1e6), "ton": ("mass", 1e6), "tons": ("mass", 1e6),
    "lb": ("mass", 453.59237), "lbs": ("mass", 453.59237), "pounds": ("mass", 453.59237),
}  # fmt: skip
YES, NO = frozenset(("yes", "true", "y", "✓")), frozenset(("no", "false", "n", "✗"))
MONEY = "€$£¥₹"
OTHER_MARK = {",": ".", ".": ","}  # of decimals and thousands
SAMPLE = 50  # cells that decide first whether a kind is tried
MOST = 0.8  # share of a column's cells that must be numbers or dates for the column to be


@dataclass(frozen=True)
class Number:
    """Number of a cell. `before` and `after` are the signs around it, `digits` how it is written."""

    value: float
    before: str
    after: str
    digits: str

    @property
    def magnitude(self) -> float:
        """Factor that the words after the digits say: 1e6 of "$12.5 million" and "$48M", but 1 of "5 m"."""
        word = (self.after.split() or [""])[0].rstrip(".")
        known = len(word) > 2 or word.casefold() in ("bn", "mn") or word in ("k", "M") or self.before[-1:] in (*MONEY,)
        return MAGNITUDES.get(plain(word), 1.0) if known and word else 1.0


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Attributes:
        kind: "number", "date", "time" or "text". values: of each cell, to be compared; None for cells without one.
        doubt: what a user must know of how the cells are read as values; empty for nothing.
    """

    name: str
    cells: Sequence[str]
    kind: str
    values: Sequence[float | None]
    doubt: str = ""

    @cached_property
    def words(self) -> list[str]:
        """Words of the name, without units in brackets."""
        return split_words(re.sub(r"\([^)]*\)", " ", self.name)) or split_words(self.name)

    @cached_property
    def notes(self) -> list[str]:
        """Words in brackets in the name, such as units."""
        return [plain(word) for part in re.findall(r"\(([^)]*)\)", self.name) for word in split_words(part)]

    @cached_property
    def scale(self) -> float:
        """Factor that the name gives to all numbers: 1,000,000 for "Population (millions)"."""
        words = [*self.notes, *map(plain, self.words)]
        return next((MAGNITUDES[word] for word in words if word in MAGNITUDES and len(word) > 2), 1.0)

    @cached_property
    def unit(self) -> str:
        """Unit of the numbers, such as "min": most cells' own, else one in the name's brackets; empty if none."""
        found = common_unit([parse_number(cell) for cell in self.cells])
        return next((word for word in self.notes if word in UNITS), "") if found is None else found

    @cached_property
    def currencies(self) -> list[str]:
        """Different currencies of the cells, such as "€" and "US$"."""
        numbers = [parse_number(cell) for cell in self.cells]
        signs = (n.before or n.after for n in numbers if n and any(sign in n.before + n.after for sign in MONEY))
        return list(dict.fromkeys(signs))

    @cached_property
    def dimension(self) -> str:
        """Quantity of the numbers: "time", "length", "mass", "temperature" or "money"; empty if no unit says so."""
        if any(sign in cell for cell in (*self.cells, self.name) for sign in MONEY):
            return "money"
        if any("°" in cell for cell in (*self.cells, self.name)):
            return "temperature"
        return UNITS[self.unit][0] if self.unit else ""

    @cached_property
    def yes_or_no(self) -> bool:
        """Return whether every cell says yes or no."""
        filled = {plain(cell) for cell in self.cells if not is_empty(cell)}
        return bool(filled) and filled <= {*YES, *NO}

    @cached_property
    def unique(self) -> bool:
        """Return whether no two cells that are not empty are equal."""
        filled = [plain(cell) for cell in self.cells if not is_empty(cell)]
        return len(set(filled)) == len(filled) > 0

    @property
    def ordered(self) -> bool:
        return self.kind != "text"


def is_empty(cell: str) -> bool:
    """Return whether a cell says nothing, such as "" or "n/a"."""
    return cell.strip().casefold() in EMPTY


def common_unit(numbers: Sequence[Number | None]) -> str | None:
    """Return what most numbers have after their digits, if that is a unit, else ""; None if no number has anything."""
    own = Counter(plain(n.after) for n in numbers if n and n.after and n.magnitude == 1)
    found = own.most_common(1)[0][0] if own else None
    return found if found is None or found in UNITS else ""


def decimal_mark(cells: Iterable[str]) -> str | None:
    """Return the sign before the decimals of some numbers, "." or ","; None if nothing decides, or they differ."""
    found = set()
    for cell in cells:
        match = NUMBER.match(cell.strip())
        if match is None:
            continue
        marks = [sign for sign in match["digits"] if sign in ".,"]
        grouped = re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", match["digits"]) is not None
        if len(set(marks)) == 2 or (len(marks) == 1 and not grouped):
            found.add(marks[-1])
        elif len(marks) > 1:  # "1.234.567"
            found.add(OTHER_MARK[marks[0]])
    return found.pop() if len(found) == 1 else None


def parse_number(text: str, decimal: str | None = None) -> Number | None:
    """Return the number of a cell: thousands separators, currency, percent and units are understood.

    Args:
        decimal: the sign before the decimals, if known. Else "1,234" is 1234, but "1.234" is 1.234.
    """
    match = NUMBER.match(text.strip())
    if match is None or (match["minus"] == "(") != (match["close"] == ")"):
        return None
    digits = match["digits"]
    value = read_digits(digits, decimal)
    if value is None:
        return None
    negative = match["minus"] != "" or match["sign"] in ("-", "−")
    return Number(-value if negative else value, match["before"].strip(), match["after"].strip(), digits)


def read_digits(digits: str, decimal: str | None = None) -> float | None:
    """Return the value of digits with separators, or None if they contradict each other."""
    digits = re.sub(r"[\u00a0\u202f '’]", "", digits)
    if decimal is not None and digits.count(decimal) <= 1:
        digits = digits.replace(OTHER_MARK[decimal], "").replace(decimal, ".")
    elif "," in digits and "." in digits:
        last = max(digits.rfind(","), digits.rfind("."))
        whole, rest = digits[:last], digits[last + 1 :]
        digits = re.sub(r"[,.]", "", whole) + "." + rest
    elif digits.count(",") > 1 or re.fullmatch(r"\d{1,3},\d{3}", digits):
        digits = digits.replace(",", "")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    else:
        digits = digits.replace(",", ".")
    try:
        return float(digits)
    except ValueError:
        return None


def parse_date(text: str, day_first: bool | None = None) -> date | None:
    """Return a date; of "3/4/2024" only if `day_first` says which number is the day."""
    text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", " ".join(text.split()).replace("Sept ", "Sep "))
    if match := SLASHED.match(text):
        one, two, year = map(int, match.groups())
        if day_first is None:
            return None
        day, month = (one, two) if day_first else (two, one)
        try:
            return date(year, month, day)
        except ValueError:
            return None
    if not re.search(r"\d{4}", text):  # every format has a year
        return None
    for form in DATES:
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    return None


def parse_clock(text: str) -> float | None:
    """Return the minutes since midnight, or of a duration, of "07:15" or "7:15 pm"."""
    match = CLOCK.match(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    half = (match[4] or "").casefold()
    if half and not 1 <= hours <= 12:
        return None
    hours = hours % 12 + 12 * (half == "pm") if half else hours
    return hours * 60 + minutes + seconds / 60


def day_comes_first(cells: Sequence[str]) -> bool | None:
    """Return whether dates such as 25/12/2024 in a column begin with the day; None if nothing decides."""
    parts = [match.groups() for cell in cells if (match := SLASHED.match(cell.strip()))]
    if any(int(one) > 12 for one, _, _ in parts):
        return True
    return False if any(int(two) > 12 for _, two, _ in parts) else None


def to_one_scale(numbers: Sequence[Number | None], magnitudes: bool) -> list[float | None]:
    """Return the values of numbers in one scale and unit, so that "2 h" is more than "98 min".

    A number without a unit has that of most. One whose unit measures something else has no value.

    Args:
        magnitudes: "1.5 million" is 1,500,000. False where the name of the column says "millions".
    """
    base = UNITS.get(common_unit(numbers) or "")
    found: list[float | None] = []
    for number in numbers:
        if number is None:
            found.append(None)
            continue
        own = UNITS.get(plain(number.after)) if number.magnitude == 1 else None
        if base and own:
            found.append(number.value * own[1] / base[1] if own[0] == base[0] else None)
        else:
            found.append(number.value * (number.magnitude if magnitudes else 1.0))
    return found


def doubt(column: Column, mark: str | None) -> str:
    """Return a notice if the numbers of a column may mean others, or are of several currencies; else ""."""
    if len(column.currencies) > 1:
        return (
            f"The cells of {column.name!r} have different currencies ({', '.join(column.currencies)}), not converted."
        )
    for cell in column.cells if mark is None else ():
        number = parse_number(cell)
        if number is not None and re.fullmatch(r"\d{1,3}\.\d{3}", number.digits):
            return (
                f"{cell!r} in {column.name!r} is read as {number.value:g}: no cell shows that the dot groups thousands."
            )
    return ""


def read_column(name: str, cells: Sequence[str], decimal: str | None = None) -> Column:
    """Return a column with the kind that most of its cells have.

    Args:
        decimal: the sign before the decimals of numbers, where the column's own do not show it.
    """
    mark = decimal_mark(cells) or decimal
    filled = [cell for cell in cells if not is_empty(cell)]
    day_first = day_comes_first(cells)
    readers: dict[str, Callable[[str], float | None]] = {
        "number": lambda cell: None if (number := parse_number(cell, mark)) is None else number.value,
        "date": lambda cell: None if (day := parse_date(cell, day_first)) is None else float(day.toordinal()),
        "time": parse_clock,
    }
    for kind, reader in readers.items():
        first = filled[:SAMPLE]
        if sum(reader(cell) is not None for cell in first) < 0.5 * len(first):
            continue
        values = [None if is_empty(cell) else reader(cell) for cell in cells]
        if filled and sum(value is not None for value in values) >= MOST * len(filled):
            column = Column(name, cells, kind, values)
            if kind != "number":
                return column
            numbers = [None if is_empty(cell) else parse_number(cell, mark) for cell in cells]
            return replace(column, values=to_one_scale(numbers, column.scale == 1), doubt=doubt(column, mark))
    return Column(name, cells, "text", [None] * len(cells))


def is_years(column: Column) -> bool:
    """Return whether a column of numbers is one of years."""
    values = [value for value in column.values if value is not None]
    whole = all(value == int(value) and 1000 <= value <= 2100 for value in values)
    return column.kind == "number" and bool(values) and whole and not any("," in cell for cell in column.cells)
