"""Split of a data set into rows for training and held-out rows, which keep their locations in the source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from .source import CHUNK, Row, RowBlock, Rows


class RowSubset(Rows):
    """A subset of the rows of a data set.

    Args:
        rows: the data set. numbers: (subset,), numbers of the rows, ascending.
    """

    def __init__(self, rows: Rows, numbers: NDArray[np.int64]) -> None:
        self.rows, self.numbers, self.name = rows, numbers, rows.name
        self.parts, self.begins = rows.parts, rows.begins

    def __len__(self) -> int:
        return len(self.numbers)

    def _locate(self, index: int) -> tuple[RowBlock, int]:
        return self.rows._locate(int(self.numbers[index]))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, list[Row]]]:
        begin, buffer = 0, list[Row]()
        for first, rows in self.rows.chunks(size):
            low, high = np.searchsorted(self.numbers, (first, first + len(rows)))
            buffer += [rows[int(number) - first] for number in self.numbers[low:high]]
            while len(buffer) >= size:
                yield begin, buffer[:size]
                begin, buffer = begin + size, buffer[size:]
        if buffer:
            yield begin, buffer


def train_eval_split(source: Any, share: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows at random into training rows and a `share` of evaluation rows, each in the order of the source.

    Args:
        source: any source of `Rows.of`. share: of the evaluation rows, between 0 and 1. seed: of the random split.

    Raises:
        InvalidInput: the share leaves no row on one side.
    """
    rows = Rows.of(source)
    count = round(len(rows) * share) if 0 < share < 1 else 0
    if not 0 < count < len(rows):
        raise InvalidInput(
            f"A share of {share} of the {len(rows):,} rows of {rows.name} cannot be held out; it must be between 0 "
            "and 1, and leave a row on both sides."
        )
    mixed = np.random.default_rng(seed).permutation(len(rows))
    return RowSubset(rows, np.sort(mixed[count:])), RowSubset(rows, np.sort(mixed[:count]))
