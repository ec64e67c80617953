"""Hidden states of a sequence's tokens, kept between passes for draft heads that read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 256  # rows of a new buffer


class StateBuffer:
    """States by position; a pass over earlier positions writes over them.

    Args:
        layers: numbers of the layers whose inputs are kept side by side; empty for the last hidden states.
    """

    def __init__(self, layers: Sequence[int] = ()) -> None:
        self.layers, self.length = tuple(layers), 0
        self._rows: Tensor | None = None  # (capacity, width)

    @property
    def states(self) -> Tensor:
        """(length, width); a view."""
        assert self._rows is not None, "nothing was written yet"
        return self._rows[: self.length]

    def write(self, begin: int, rows: Tensor) -> None:
        """Write rows (new, width) from position `begin` on; what was after them is forgotten."""
        end = begin + len(rows)
        if self._rows is None or end > len(self._rows):
            # copies, since a runner may use its output's memory again; twice as many, so that few are made
            more = rows.new_empty(max(LEAST, 2 * end), rows.shape[1])  # (capacity, width)
            if self._rows is not None:
                more[:begin] = self._rows[:begin]
            self._rows = more
        self._rows[begin:end] = rows
        self.length = end

    def write_pass(self, begin: int, hidden: Tensor, recorded: Sequence[Tensor] | None, rows: slice) -> None:
        """Write a sequence's rows of a pass.

        Args:
            hidden: (tokens, width), last hidden states of the batch. recorded: the states of each layer, if collected.
        """
        if not self.layers:
            self.write(begin, hidden[rows])
            return
        assert recorded is not None
        self.write(begin, torch.cat([recorded[layer][rows] for layer in self.layers], -1))

    def crop(self, length: int) -> None:
        """Forget the states after the first `length`."""
        self.length = min(self.length, length)
