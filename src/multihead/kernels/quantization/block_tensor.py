"""Tensors in the quantized blocks of a GGUF file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref
from typing import ClassVar

import torch
from torch import Tensor

from ..cpu import native
from .coded_tensor import CodedTensor, QuantizedMatrix

BYTES = 1 << 18  # of blocks that are decoded at once, so that intermediates stay in the processor's cache


class BlockType(ABC):
    """A type of quantized block. A weight is its code times the scale of its group, plus the group's minimum.

    Attributes:
        name: as files name the type. length: weights of a block. size: bytes of a block.
        number: of the type in GGUF files, by which `native/blocks.h` knows it; -1 for none.
        format: the narrowest of `registry.FORMATS` that holds such weights, or comes near them.
        exact: True if that format has the very same codes, so that a product can keep them.
    """

    name: ClassVar[str]
    length: ClassVar[int]
    size: ClassVar[int]
    number: ClassVar[int] = -1
    format: ClassVar[str]
    exact: ClassVar[bool]

    @staticmethod
    @abstractmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        """Split blocks (count, size), uint8.

        Returns:
            Codes (count, length) in 8 bits; scales and, where the type has them, minima (count, groups), float32.
        """


class BlockTensor(CodedTensor):
    """A tensor (..., columns) in blocks.

    Args:
        blocks: (..., bytes), uint8. Moving rows of blocks moves the rows of the tensor.
    """

    blocks: Tensor
    block_type: BlockType

    @staticmethod
    def __new__(cls, blocks: Tensor, block_type: BlockType) -> BlockTensor:
        # bytes to numbers
        shape = *blocks.shape[:-1], blocks.shape[-1] // block_type.size * block_type.length
        made = cls.of_shape(shape, blocks.device)
        made.blocks, made.block_type = blocks, block_type
        return made

    def copy(self) -> BlockTensor:
        return BlockTensor(self.blocks, self.block_type)

    @property
    def narrowest(self) -> str:
        return self.block_type.format

    def kept(self, format: str) -> QuantizedMatrix | None:
        return self.matrix() if self.block_type.exact and self.block_type.format == format else None

    def moved(self, read: Callable[[Tensor], Tensor]) -> BlockTensor:
        return BlockTensor(read(self.blocks), self.block_type)

    def matrices(self) -> Sequence[Tensor]:
        return [BlockTensor(blocks, self.block_type) for blocks in self.blocks.unbind()]

    def row_slices(self, rows: int) -> Iterator[Tensor]:
        return (BlockTensor(part, self.block_type).numbers() for part in self.blocks.split(rows))

    def matrix(self) -> QuantizedMatrix:
        """Return codes (..., columns), and scales and minima (..., groups)."""
        # (blocks, length) codes, (blocks, groups) scales, of each piece
        found = [self.block_type.decode(part) for part in self._pieces()]

        def whole(parts: list[Tensor]) -> Tensor:
            x = torch.cat(parts)  # (blocks, length or groups)
            return x.view(*self.shape[:-1], x.shape[1] * (self.shape[-1] // self.block_type.length))

        scales, minima = ([x for part in found if (x := part[i]) is not None] for i in (1, 2))
        return QuantizedMatrix(whole([part.codes for part in found]), whole(scales), whole(minima) if minima else None)

    def numbers(self, dtype: torch.dtype = torch.float32) -> Tensor:
        out, begin = torch.empty(self.numel() // self.block_type.length, self.block_type.length, dtype=dtype), 0
        if self._decode_natively(out):
            return out.view(self.shape)
        for part in self._pieces():
            codes, scales, minima = self.block_type.decode(part)
            assert scales is not None
            # (blocks, groups, weights of a group)
            groups = codes.unflatten(1, (scales.shape[1], -1)).float().mul_(scales[..., None])
            groups = groups if minima is None else groups.add_(minima[..., None])
            out[begin : begin + len(part)] = groups.flatten(1)  # (blocks, length)
            begin += len(part)
        return out.view(self.shape)

    def _decode_natively(self, out: Tensor) -> bool:
        """Fill `out` (blocks, length) by the C++ kernels; False where they do not know the type."""
        library, blocks = native.library(), self.blocks.contiguous()
        if library is None or not blocks.is_cpu or out.dtype not in native.TYPES or self.block_type.number < 0:
            return False
        call = native.DequantizeCall(
            blocks=blocks.data_ptr(), out=out.data_ptr(), count=len(out), number=self.block_type.number,
            type=native.TYPES[out.dtype],
        )  # fmt: skip
        return bool(library.mh_dequantize(byref(call), torch.get_num_threads()))

    def _pieces(self) -> Iterator[Tensor]:
        """Yield all blocks, some at a time: (count, size)."""
        return iter(self.blocks.reshape(-1, self.block_type.size).split(max(1, BYTES // self.block_type.size)))
