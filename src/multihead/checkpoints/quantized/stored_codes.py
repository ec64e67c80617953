"""A weight in the codes of a quantized checkpoint, which become numbers some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SLICE = 2**20  # weights that are dequantized at once


def as_stored(codes: Tensor) -> Tensor:
    """Return codes that are not packed."""
    return codes


@dataclass(frozen=True)
class Codes:
    """Matrices of codes (..., rows, columns), unpacked some rows at a time.

    Args:
        stored: (..., m, n), as the file has them. columns: of a matrix.
        unpack: makes codes (rows, columns) of a piece of one stored matrix: integers or narrow floating-point numbers.
        axis: of `stored` along which rows lie, -2 or -1. each: rows in an element along it.
        count: rows of a matrix; None for as many as `stored` has.
    """

    stored: Tensor
    columns: int
    unpack: Callable[[Tensor], Tensor] = as_stored
    axis: int = -2
    each: int = 1
    count: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        rows = self.stored.shape[self.axis] * self.each if self.count is None else self.count
        return (*self.stored.shape[:-2], rows, self.columns)

    @property
    def whole(self) -> Tensor:
        """The codes of the first matrix, (rows, columns)."""
        return self.rows(0, self.shape[-2])

    def rows(self, begin: int, end: int, matrix: int = 0) -> Tensor:
        """Return rows of one matrix."""
        whole = self.stored.reshape(-1, *self.stored.shape[-2:])[matrix]
        first = begin // self.each
        piece = whole.narrow(self.axis, first, -(-end // self.each) - first)
        skipped = first * self.each
        return self.unpack(piece)[begin - skipped : end - skipped]


def plain(codes: Tensor) -> Codes:
    """Return matrices of codes that are not packed."""
    return Codes(codes, codes.shape[-1])


@dataclass(frozen=True)
class StoredCodes:
    """A weight in codes: (code - zero) * scale.

    Args:
        codes: (..., rows, columns).
        scales: (..., rows, groups), or (..., 1, groups) where all rows share them.
        zeros: as `scales`; None for zero.
        size: columns of a group; the last group may be narrower.
        index: group of each column, (columns,), where groups are not neighbours; `size` then says nothing.
        bits: of a code.
        transposed: True if the weight is the transpose of this matrix.
        table: numbers of the codes, where these are no numbers themselves.
        form: shape of the weight, where the rows hold its codes end to end; None for the matrix itself.
    """

    codes: Codes
    scales: Tensor
    zeros: Tensor | None = None
    size: int = 0
    index: Tensor | None = None
    bits: int = 8
    transposed: bool = False
    table: Tensor | None = None
    form: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        *more, rows, columns = self.codes.shape
        own = (*more, columns, rows) if self.transposed else (*more, rows, columns)
        return own if self.form is None else self.form

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Dequantize the whole: in float32, then rounded once."""
        if self.form is not None:
            return self.rows(0, math.prod(self.form[:-1]), dtype).view(self.form)
        out = torch.empty(self.shape, dtype=dtype)
        for number, target in enumerate(out.view(-1, *self.shape[-2:])):
            self.fill(target.T if self.transposed else target, 0, number)
        return out

    def rows(self, begin: int, end: int, dtype: torch.dtype) -> Tensor:
        """Dequantize rows of a weight of one matrix, the rows of its codes where it is transposed."""
        width = self.codes.columns
        if self.form is None:
            out = torch.empty(end - begin, width, dtype=dtype)
            self.fill(out, begin)
            return out
        columns = self.form[-1]
        first, last = begin * columns // width, -(-end * columns // width)  # rows of codes
        out = torch.empty(last - first, width, dtype=dtype)
        self.fill(out, first)
        return out.flatten()[begin * columns - first * width :][: (end - begin) * columns].view(-1, columns)

    def fill(self, target: Tensor, begin: int, matrix: int = 0) -> None:
        """Write rows of one matrix of codes, from `begin` on, into (rows, columns)."""
        scales, zeros = (None if x is None else x.reshape(-1, *x.shape[-2:])[matrix] for x in (self.scales, self.zeros))
        assert scales is not None
        step = max(self.codes.each, SLICE // max(1, self.codes.columns))
        for first in range(begin, begin + len(target), step):
            end = min(first + step, begin + len(target))
            codes, part = self.codes.rows(first, end, matrix), slice(first, end)
            values = codes.float() if self.table is None else self.table[codes.int()]
            if zeros is not None:
                values -= self._columns(zeros, part)
            target[first - begin : end - begin] = values.mul_(self._columns(scales, part))

    def _columns(self, groups: Tensor, part: slice) -> Tensor:
        """Return the number of its group for each column of some rows: (rows, groups) to (rows, columns)."""
        found = (groups[part] if len(groups) > 1 else groups).float()
        if self.index is not None:
            return found[:, self.index]
        if found.shape[1] == 1:
            return found
        return found.repeat_interleave(self.size, 1)[:, : self.codes.columns]
