"""Quantization formats: how a matrix becomes codes, how codes become numbers, how kernels read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InvalidInput, UnsupportedOption, nearest
from .coded_tensor import CodedTensor, QuantizedMatrix, row_slices, to_dtype
from .panels import PANEL
from .registry import FILE_FORMAT, FORMATS

SLICE = 2**20  # weights that are quantized at once


@dataclass(frozen=True)
class PackedWeight:
    """A matrix (outputs, inputs) in the layout that the kernels of its format read.

    Args:
        codes, scales, minima: as `QuantizationFormat.pack` of the format lays them out.
    """

    format: QuantizationFormat
    shape: tuple[int, int]
    codes: Tensor
    scales: Tensor | None = None
    minima: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.codes, self.scales, self.minima) if x is not None)


class QuantizationFormat(ABC):
    """Quantization format; `format_of(name)` returns its only object.

    A subclass needs `quantize` and `dequantize` alone: its products are then computed by dequantizing. One that C++
    kernels read has a `kernel` number and packs for them.

    Attributes:
        name: the key in `registry.FORMATS`. bits: of a weight, with its share of scales.
        kernel: number of the format in `native.h` (`Weight.kind`); None where no kernel reads the format.
        code_dtype: of packed codes. by_rows: True if dimension 0 of codes, scales and minima is the outputs.
    """

    name: ClassVar[str]
    bits: ClassVar[float]
    kernel: ClassVar[int | None] = None
    code_dtype: ClassVar[torch.dtype] = torch.uint8
    by_rows: ClassVar[bool] = True

    @abstractmethod
    def quantize(self, weight: Tensor) -> QuantizedMatrix:
        """Quantize a matrix (outputs, inputs) in float32, or some of its rows.

        Raises:
            InvalidInput: weights that are not finite, or too large for the format.
        """

    @abstractmethod
    def dequantize(self, matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the matrix of this shape (outputs, inputs)."""

    def encode(self, weight: Tensor) -> QuantizedMatrix:
        """Quantize a matrix of any dtype some rows at a time; take over the codes of a file that has the same."""
        if isinstance(weight, CodedTensor) and (found := weight.kept(self.name)) is not None:
            check_finite(*found[1:])  # codes are integers, so only scales and minima can be wrong
            return found
        if not self.by_rows:
            return self.quantize(to_dtype(weight, torch.float32))
        rows = max(1, SLICE // max(1, weight.shape[1]))  # a float32 copy of the whole matrix may not fit the memory
        return join_rows([self.quantize(part) for part in row_slices(weight, rows)], stack_rows)

    def pack(self, matrix: QuantizedMatrix, shape: tuple[int, int]) -> PackedWeight:
        """Lay out a quantized matrix as kernels read it."""
        return PackedWeight(self, shape, *matrix)

    def unpack(self, packed: PackedWeight) -> QuantizedMatrix:
        """Undo `pack`; what fills up rows and columns may stay."""
        return QuantizedMatrix(packed.codes, packed.scales, packed.minima)

    def round_inputs(self, x: Tensor) -> Tensor:
        """Round rows of inputs (rows, inputs), float32, as the kernels do before they multiply."""
        return x

    def weight(self, packed: PackedWeight) -> Tensor:
        """Return a packed matrix in float32, (outputs, inputs)."""
        return self.dequantize(self.unpack(packed), packed.shape)

    def linear(self, x: Tensor, packed: PackedWeight, bias: Tensor | None = None) -> Tensor:
        """Compute x @ weight.T + bias in torch's operations: the definition of what the kernels compute.

        Args:
            x: (rows, inputs), any dtype. bias: (outputs,), float32.

        Returns:
            (rows, outputs), float32.
        """
        # float32 sums, as the kernels have them
        return F.linear(self.round_inputs(x.float()), self.weight(packed), bias)

    def __reduce__(self) -> tuple[Any, ...]:
        return format_of, (self.name,)


@cache
def format_of(name: str) -> QuantizationFormat:
    """Return the format of a name, always the same object.

    Raises:
        UnsupportedOption: there is no such format.
    """
    if name not in FORMATS:
        raise UnsupportedOption(
            f"Quantization format {name!r} is none of {', '.join(FORMATS)}. {nearest(name, FORMATS)}"
        )
    module, _, cls = FORMATS[name].partition(".")
    found: QuantizationFormat = getattr(import_module(f".{module}", __package__), cls)()
    return found


def pack(weight: Tensor | Sequence[Tensor], format: str, join: Callable[..., Tensor] | None = None) -> PackedWeight:
    """Quantize a matrix (outputs, inputs) and pack it. Codes of a file stay as they are where the format has the same.

    Args:
        weight: the whole matrix, or parts of its rows that `join` puts together, `stack_rows` by default.
        format: a name in `registry.FORMATS`, or `FILE_FORMAT` for the narrowest that holds each part's codes.

    Raises:
        UnsupportedOption: an unknown format. InvalidInput: weights that are not finite, or too large for scales in
            half precision.
    """
    join = join or stack_rows
    weights = [w.detach() for w in ([weight] if isinstance(weight, Tensor) else weight)]
    chosen = format_of(file_format(weights) if format == FILE_FORMAT else format)
    if weights[0].is_meta:
        return empty_packed(chosen.name, (len(join(*(torch.empty(len(w), 0) for w in weights))), weights[0].shape[1]))
    if not chosen.by_rows:
        weights, join = [join(*weights)], stack_rows  # codes of such a format cannot be joined later
    matrix = join_rows([chosen.encode(w) for w in weights], join)
    # after the join, which may have filled up rows (`interleave`)
    outputs = matrix.codes.shape[0] if chosen.by_rows else weights[0].shape[0]
    return chosen.pack(matrix, (outputs, weights[0].shape[1]))


def file_format(weights: Sequence[Tensor]) -> str:
    """Name the narrowest format that holds what a file has of all these matrices; bf16 where one has no codes."""
    names = {w.narrowest if isinstance(w, CodedTensor) else "bf16" for w in weights}
    return max(names, key=lambda name: format_of(name).bits)


def empty_packed(format: str, shape: tuple[int, int]) -> PackedWeight:
    """Return a packed matrix without memory (on the meta device), for weights that are still to come.

    One panel of zeros is packed on the CPU: some of torch's operations import torch's compiler on the meta device,
    which takes a second. A format without a kernel has no panels, so its whole matrix is packed.
    """
    rows = shape[0] if format_of(format).kernel is None else PANEL
    part, panels = pack(torch.zeros(rows, shape[1]), format), -(-shape[0] // max(rows, 1))

    def repeat(x: Tensor) -> Tensor:
        return x.new_empty((len(x) * panels, *x.shape[1:]), device="meta")

    scales, minima = (None if x is None else repeat(x) for x in (part.scales, part.minima))
    return PackedWeight(part.format, shape, repeat(part.codes), scales, minima)


@cache
def packed_layout(format: str, shape: tuple[int, int]) -> PackedWeight:
    """Return `empty_packed` from a cache: for reading shapes and dtypes."""
    return empty_packed(format, shape)


def stack_rows(*parts: Tensor) -> Tensor:
    """Put matrices (or vectors) of rows one under the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def join_rows(parts: Sequence[QuantizedMatrix], join: Callable[..., Tensor]) -> QuantizedMatrix:
    """Join the codes, scales and minima of several parts."""
    if len(parts) == 1 and join is stack_rows:
        return parts[0]
    scales, minima = (None if parts[0][i] is None else join(*(part[i] for part in parts)) for i in (1, 2))
    return QuantizedMatrix(join(*(part.codes for part in parts)), scales, minima)


def dequantize_groups(matrix: QuantizedMatrix, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Multiply codes (outputs, inputs) by the scale of their group and add its minimum, if there are minima.

    Scales and minima are (outputs, groups). What fills up rows and columns beyond `shape` is dropped.
    """
    codes, scales, minima = matrix
    assert scales is not None
    # (outputs, groups, inputs of a group)
    groups = codes.unflatten(1, (scales.shape[1], -1)).float().mul_(scales[..., None])
    groups = groups if minima is None else groups.add_(minima[..., None])
    return groups.flatten(1)[: shape[0], : shape[1]].to(dtype)  # (outputs, inputs)


def check_finite(*tensors: Tensor | None) -> None:
    """Raise InvalidInput for numbers that are not finite. A tensor without memory passes."""
    if not all(x is None or x.is_meta or x.isfinite().all() for x in tensors):
        raise InvalidInput(
            "These weights are not all finite numbers, so they cannot be quantized; check the checkpoint."
        )
