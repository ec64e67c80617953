"""Weights of a quantized checkpoint that stay in the codes of the mapped file until their numbers are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import read_errors
from ...kernels.quantization.coded_tensor import CodedTensor, QuantizedMatrix
from .format import StoredFormat, expect
from .kept_codes import keep, narrowest
from .stored_codes import StoredCodes

SCALES = {"scale", "scales", "largest"}  # parts of weights


@dataclass(frozen=True)
class StoredWeight:
    """A weight of a quantized checkpoint, unread.

    Args:
        format: of the checkpoint. name: of the weight. parts: its stored tensors, mapped. source: of the file, for
            messages.
    """

    format: StoredFormat
    name: str
    parts: Mapping[str, Tensor]
    source: str

    def codes(self, matrix: int = 0, count: int = 1) -> StoredCodes:
        """Return the codes of the weight, or of one matrix of a stack of `count`.

        Raises:
            CorruptFile: stored tensors that do not fit together, or contradict the config.
        """
        parts = self.parts
        if count > 1:
            # what has another length belongs to all matrices
            own = slice(matrix, matrix + 1)
            parts = {part: x[own] if x.ndim and len(x) == count else x for part, x in parts.items()}
        with self.errors():
            for part in SCALES & set(parts):
                # bytes are powers of two in some formats
                fits = parts[part].is_floating_point() or parts[part].dtype is torch.uint8
                expect(fits, self.name, f"its scales are {parts[part].dtype}, no floating-point numbers")
            found = self.format.codes(self.name, parts)
            fits = found.scales.is_floating_point()
            expect(fits, self.name, f"its scales are {found.scales.dtype}, no floating-point numbers")
        return found

    def errors(self) -> AbstractContextManager[None]:
        """Return a context in which errors of damaged tensors name the weight."""
        return read_errors(f"{self.source}: {self.name}")

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Return the whole weight dequantized. Raises CorruptFile."""
        codes = self.codes()
        with self.errors():
            return codes.numbers(dtype)


class DeferredTensor(CodedTensor):
    """Rows of a stored weight, dequantized some at a time: (..., rows, columns).

    Args:
        weight: that is stored. count: of its matrices; 1 for a weight that is no stack.
        height: rows of a matrix of codes. rows: numbers of rows of codes, (..., rows), counted over all matrices.
        columns: of codes. turned: True for the transpose of these rows, (..., columns, rows).
    """

    weight: StoredWeight
    count: int
    height: int
    rows: Tensor
    turned: bool

    @staticmethod
    def __new__(
        cls, weight: StoredWeight, count: int, height: int, rows: Tensor, columns: int, turned: bool = False
    ) -> DeferredTensor:
        made = cls.of_shape((*rows.shape[:-1], columns, rows.shape[-1]) if turned else (*rows.shape, columns))
        made.weight, made.count, made.height, made.rows, made.turned = weight, count, height, rows, turned
        return made

    @classmethod
    def of(cls, weight: StoredWeight) -> DeferredTensor:
        """Return a whole weight. Raises CorruptFile for stored tensors that do not fit together."""
        found = weight.codes()
        *more, rows, columns = found.codes.shape if found.form is None else found.form
        count = math.prod(more) if found.form is None else 1  # codes end to end are read as one matrix
        numbers = torch.arange(math.prod(more) * rows).view(*more, rows)
        return cls(weight, count, rows if found.form is None else len(numbers), numbers, columns, found.transposed)

    def copy(self) -> DeferredTensor:
        return self._with(self.rows, self.turned)

    def numbers(self, dtype: torch.dtype = torch.float32) -> Tensor:
        found = self._read(self.rows.flatten(), dtype, {}).view(*self.rows.shape, -1)
        return found.mT if self.turned else found

    @property
    def narrowest(self) -> str:
        return "int8g" if self.turned else narrowest(self._codes(int(self.rows.flatten()[0]) // self.height))

    def kept(self, format: str) -> QuantizedMatrix | None:
        if self.turned or self.rows.ndim > 1:
            return None
        matrix = int(self.rows[0]) // self.height
        rows = self.rows - matrix * self.height
        if int(rows.min()) < 0 or int(rows.max()) >= self.height:
            return None
        whole, codes = torch.equal(rows, torch.arange(self.height)), self._codes(matrix)
        with self.weight.errors():
            return keep(codes, None if whole else rows, format)

    def moved(self, read: Callable[[Tensor], Tensor]) -> CodedTensor:
        return super().moved(read) if self.turned else self._with(read(self.rows[..., None])[..., 0])

    def transposed(self) -> DeferredTensor:
        return self._with(self.rows, not self.turned)

    def matrices(self) -> Sequence[Tensor]:
        return [self._with(rows, self.turned) for rows in self.rows]

    def row_slices(self, rows: int) -> Iterator[Tensor]:
        if self.turned:
            yield from super().row_slices(rows)
            return
        opened: dict[int, StoredCodes] = {}
        for part in self.rows.split(rows):
            yield self._read(part, torch.float32, opened)

    def _with(self, rows: Tensor, turned: bool = False) -> DeferredTensor:
        columns = self.shape[-2 if self.turned else -1]
        return DeferredTensor(self.weight, self.count, self.height, rows, columns, turned)

    def _codes(self, matrix: int) -> StoredCodes:
        return self.weight.codes(matrix, self.count)

    def _read(self, rows: Tensor, dtype: torch.dtype, opened: dict[int, StoredCodes]) -> Tensor:
        """Dequantize rows of codes, (rows, columns).

        Args:
            rows: their numbers. opened: codes of matrices that were read before.
        """
        places = rows // self.height
        out = torch.empty(0)
        for matrix in (found := places.unique()).tolist():
            if matrix not in opened:
                opened.clear()
                opened[matrix] = self._codes(matrix)
            here = places == matrix
            with self.weight.errors():
                part = gather(opened[matrix], rows[here] - matrix * self.height, dtype)
            if len(found) == 1:
                return part
            out = out if out.numel() else torch.empty(len(rows), part.shape[1], dtype=dtype)
            out[here] = part
        return out


def gather(codes: StoredCodes, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Dequantize rows of a matrix of codes, (rows, columns)."""
    first, end = int(rows.min()), int(rows.max()) + 1
    found = codes.rows(first, end, dtype)
    return found if torch.equal(rows, torch.arange(first, end)) else found[rows - first]
