"""Rows taken out of a data set to evaluate on, which still say where they stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from .source import CHUNK, Part, Row, Rows


class Chosen(Rows):
    """Some rows of others.

    Args:
        rows: the others. numbers: (chosen,), of the rows, ascending.
    """

    def __init__(self, rows: Rows, numbers: NDArray[np.int64]) -> None:
        self.rows, self.numbers, self.name = rows, numbers, rows.name
        self.parts, self.begins = rows.parts, rows.begins

    def __len__(self) -> int:
        return len(self.numbers)

    def _place(self, index: int) -> tuple[Part, int]:
        return self.rows._place(int(self.numbers[index]))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, list[Row]]]:
        begin, held = 0, list[Row]()
        for first, rows in self.rows.chunks(size):
            low, high = np.searchsorted(self.numbers, (first, first + len(rows)))
            held += [rows[int(number) - first] for number in self.numbers[low:high]]
            while len(held) >= size:
                yield begin, held[:size]
                begin, held = begin + size, held[size:]
        if held:
            yield begin, held


def held_out(source: Any, share: float, seed: int) -> tuple[Rows, Rows]:
    """The rows to learn from and, drawn at random by the seed, a share of them to evaluate on; both in their order.

    Args:
        source: of `Rows.of`. share: between 0 and 1.

    Raises:
        InvalidInput: a share that leaves nothing on one side.
    """
    rows = Rows.of(source)
    count = round(len(rows) * share) if 0 < share < 1 else 0
    if not 0 < count < len(rows):
        raise InvalidInput(
            f"A share of {share} of the {len(rows):,} rows of {rows.name} cannot be held out; it must lie between 0 "
            "and 1, and leave a row on both sides."
        )
    mixed = np.random.default_rng(seed).permutation(len(rows))
    return Chosen(rows, np.sort(mixed[count:])), Chosen(rows, np.sort(mixed[:count]))
