"""Labeled rows: those that can be read with their location, and those that cannot with their error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data_files import numbered_rows
from ..errors import InvalidInput
from ..training.data.source import ABSENT, Row, RowBlock, Rows, is_path, of_columns


@dataclass(frozen=True)
class FailedRow:
    """A row that has no score, or an answer that could not be given.

    Args:
        location: such as "line 12 of dev.csv". reason: the error. stage: "file", "reference" or "answer".
    """

    location: str
    reason: str
    stage: str


@dataclass(frozen=True)
class LabeledRows:
    """Rows of a file or an object in memory.

    Args:
        rows: those that could be read. broken: the others. name: of the file, or "the data".
    """

    rows: Rows
    broken: list[FailedRow] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.rows.name

    @property
    def total(self) -> int:
        """Number of rows, broken ones included."""
        return len(self.rows) + len(self.broken)


def labeled_rows(source: Any) -> LabeledRows:
    """Read a source.

    Args:
        source: rows that were read already; one path, whose broken rows are kept apart; or another source of
            `Rows.of`.

    Raises:
        InvalidInput: there are no rows that can be read, or a file that is broken from some row on.
    """
    if isinstance(source, LabeledRows):
        return source
    if not isinstance(source, (str, os.PathLike)) or not is_path(source):
        return LabeledRows(Rows.of(source))
    path = Path(source).expanduser()
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    broken: list[FailedRow] = []
    count = 0
    for number, (line, row) in enumerate(numbered_rows(path)):
        place = f"row {number} of {path.name}" if line is None else f"line {line} of {path.name}"
        if isinstance(row, str) and not row.strip():  # an empty line of a text file
            continue
        if (record := as_mapping(row)) is None:
            reason = str(row) if isinstance(row, InvalidInput) else f"no object of columns but {type(row).__name__}"
            broken.append(FailedRow(place, reason, "file"))
            continue
        for name in record:
            columns.setdefault(str(name), [ABSENT] * count)
        for name, values in columns.items():
            values.append(record.get(name, ABSENT))
        count += 1
        lines += [] if line is None else [line]
    if not count:
        found = f": {broken[0].reason}" if broken else "."
        raise InvalidInput(f"There are no rows to evaluate in {path.name}{found}")
    block = of_columns(columns)
    places = np.array(lines, np.int64) if len(lines) == count else None
    return LabeledRows(Rows([RowBlock(block.count, block.take, block.columns, path.name, places)]), broken)


def as_mapping(row: Any) -> Row | None:
    """Return a row as a mapping; a text has one column, "text". None for a row that is broken or something else."""
    if isinstance(row, str):
        return {"text": row}
    return row if isinstance(row, Mapping) else None
