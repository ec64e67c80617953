"""Slices of rows: by the values of a column, or by the length of the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InvalidInput, nearest
from ..training.data.columns import is_missing
from ..training.data.labels import finite_number
from .scorers.base import Case

MOST = 20  # slices of one column; rarer values are joined
BANDS = 4  # quantiles that numbers are cut into
Slices = list[tuple[str, list[int]]]  # name, numbers of cases


def length_bands(texts: Sequence[str]) -> Slices:
    """Return the cases of each quarter of text lengths in characters, the shortest first."""
    return bands([len(text) for text in texts], "{} characters")


def by_column(cases: Sequence[Case], column: str) -> Slices:
    """Return the cases of each value of a column; of numbers with many values, the cases of each quarter.

    Raises:
        InvalidInput: no row has the column.
    """
    known = {str(name) for case in cases for name in case.row}
    if column not in known:
        raise InvalidInput(f"There is no column {column!r} to slice by. {nearest(column, known)}")
    cells = [case.row.get(column) for case in cases]
    present = [cell for cell in cells if not is_missing(cell)]
    numbers = [finite_number(cell) for cell in present]
    if len(set(map(str, present))) > MOST and None not in numbers and len(present) == len(cells):
        return bands([float(number or 0) for number in numbers], "{}")
    names = ["(missing)" if is_missing(cell) or cell == "" else shown(cell) for cell in cells]
    common = [name for name, _ in Counter(names).most_common(MOST if len(set(names)) <= MOST else MOST - 1)]
    found = [(name, [n for n, own in enumerate(names) if own == name]) for name in common]
    rest = [n for n, own in enumerate(names) if own not in common]
    return [*found, *([(f"(other: {len(set(names)) - len(common)} values)", rest)] if rest else [])]


def bands(values: Sequence[float], name: str) -> Slices:
    """Return the cases of each quarter of numbers; numbers that are equal stay together."""
    array = np.asarray(values, dtype=float)
    edges = np.unique(np.quantile(array, np.linspace(0, 1, BANDS + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, array, side="left")
    found = []
    for number in np.unique(place):
        own = np.nonzero(place == number)[0]
        low, high = array[own].min(), array[own].max()
        found.append((name.format(f"{low:g}" if low == high else f"{low:g} to {high:g}"), own.tolist()))
    return found


def shown(cell: Any) -> str:
    """Return a cell as the name of a slice."""
    text = " ".join(str(cell).split())
    return text if len(text) <= 60 else text[:57] + "..."
