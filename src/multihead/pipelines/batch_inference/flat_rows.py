"""Rows of a run as the rows of a table: one value a cell, with the same columns in every row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from .columns import ROW_KEYS
from .json_rows import to_json

RANKED = {"labels": "label", "scores": "score"}  # lists of equal length in one answer -> columns label_1, score_1, ...
SCALARS = (str, int, float, bool, type(None))
Cell = str | int | float | bool | None
EXACT = 1 << 53  # up to which float64 holds every whole number


class LongInt(int):
    """Whole number that 64 bits hold and float64 does not."""


CELL_TYPES: dict[str, type] = {one.__name__: one for one in (str, int, float, bool, LongInt)}


@dataclass
class Columns:
    """Columns of all rows of a run, which are known when the last row is.

    Args:
        varied: answers are lists whose length depends on the text, so that one cell holds the list as JSON.

    Attributes:
        kept, answers: names of columns in their order. types: column -> types of its cells.
        has_input: whether some row's input is in none of its kept columns.
    """

    varied: bool
    kept: dict[str, None] = field(default_factory=dict)
    answers: dict[str, tuple[int, int]] = field(default_factory=dict)  # -> place of its record, place in the record
    types: dict[str, set[type]] = field(default_factory=dict)
    has_input: bool = False
    width: int = 0  # records of an answer at most

    def measure(self, row: Mapping[str, Any]) -> None:
        """Take the number of records of a row's answer into account."""
        records = row.get("output") or ()
        if is_records(records) and not self.varied:
            self.width = max(self.width, len(records))

    def add(self, row: Mapping[str, Any]) -> None:
        """Take the columns of a row into account. Every row must have been measured before."""
        kept = kept_of(row)
        self.kept |= dict.fromkeys(kept)
        for place, (name, _) in self.answer_cells(row):
            self.answers.setdefault(name, (place, len(self.answers)))
        given = row.get("input")
        texts = list(given.values()) if isinstance(given, Mapping) else [given]
        self.has_input |= given is not None and any(text not in kept.values() for text in texts)
        for name, value in self.cells(row).items():
            if value is not None:
                self.types.setdefault(name, set()).add(cell_type(value))

    def merge(self, other: Columns) -> None:
        """Take the columns of other rows into account, measured with the same width."""
        self.kept |= other.kept
        for name, (place, _) in other.answers.items():
            self.answers.setdefault(name, (place, len(self.answers)))
        for name, types in other.types.items():
            self.types.setdefault(name, set()).update(types)
        self.has_input |= other.has_input
        self.width = max(self.width, other.width)

    def state(self) -> dict[str, Any]:
        """Return the columns as values of JSON."""
        return {
            "varied": self.varied, "kept": list(self.kept),
            "answers": [[name, *place] for name, place in self.answers.items()],
            "types": {name: sorted(one.__name__ for one in types) for name, types in self.types.items()},
            "has_input": self.has_input, "width": self.width,
        }  # fmt: skip

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Columns:
        """Return the columns of a `state`."""
        return cls(
            state["varied"], dict.fromkeys(state["kept"]), {name: (a, b) for name, a, b in state["answers"]},
            {name: {CELL_TYPES[one] for one in types} for name, types in state["types"].items()},
            state["has_input"], state["width"],
        )  # fmt: skip

    def check(self) -> None:
        """Raise InvalidInput for a kept column that has the name of a column of answers."""
        if twice := [name for name in self.kept if name in self.answers]:
            raise InvalidInput(
                f"The answers have a column {twice[0]!r}, as the input has. Rename it in the input, leave it out of "
                "--keep, or write .jsonl, where answers are under output."
            )

    @property
    def names(self) -> list[str]:
        """Names of all columns in their order."""
        given = ["input"] if self.has_input else []
        answers = sorted(self.answers, key=lambda name: self.answers[name])
        return ["row", *self.kept, *given, *answers, "error", "notices"]

    def cells(self, row: Mapping[str, Any]) -> dict[str, Cell]:
        """Return the cells of a row by their columns."""
        found = {"row": row["row"], **{name: to_cell(value) for name, value in kept_of(row).items()}}
        found["input"] = to_cell(row.get("input"))
        found |= dict(cell for _, cell in self.answer_cells(row))
        notices = row.get("notices")
        return {**found, "error": row.get("error"), "notices": "; ".join(notices) if notices else None}

    def answer_cells(self, row: Mapping[str, Any]) -> Iterator[tuple[int, tuple[str, Cell]]]:
        """Yield (place of the record, (column, cell)) of a row's answer."""
        if "output" not in row:
            return
        output = row["output"]
        if isinstance(output, Mapping) and set(RANKED) <= set(output):
            ranked = zip(*(output[name] for name in RANKED), strict=False)
            output = [dict(zip(RANKED.values(), each, strict=True)) for each in ranked]
            width = len(output) + 1
        else:
            output, width = [output] if isinstance(output, Mapping) else output, self.width
        if self.varied or not is_records(output):
            yield 0, ("output", to_cell(output))
            return
        for number, record in enumerate(output, 1):
            for name, value in record.items():
                yield number, (f"{name}_{number}" if width > 1 else str(name), to_cell(value))


def cell_type(value: Cell) -> type:
    """Return the type of a cell: text for a number that 64 bits do not hold, `LongInt` if float64 does not hold it."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) <= EXACT:
        return type(value)
    return LongInt if -(1 << 63) <= value < 1 << 63 else str


def is_records(output: Any) -> bool:
    """Return whether an answer is a list of mappings."""
    return isinstance(output, Sequence) and not isinstance(output, str) and all(isinstance(o, Mapping) for o in output)


def kept_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the input that a row keeps, by names that every format holds."""
    return {str(to_cell(name)): value for name, value in row.items() if name not in ROW_KEYS}


def to_cell(value: Any) -> Cell:
    """Return a value that a cell holds; lists and mappings as JSON. Half a surrogate pair becomes an escape."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value if isinstance(value, SCALARS) else to_cell(to_json(value))


def columns_of(rows: Iterable[Mapping[str, Any]], again: Iterable[Mapping[str, Any]], varied: bool) -> Columns:
    """Return the columns of some rows, which are read twice. Raises InvalidInput for two columns of one name."""
    columns = Columns(varied)
    for row in rows:
        columns.measure(row)
    for row in again:
        columns.add(row)
    columns.check()
    return columns
