"""Tensors in the quantized blocks of a file, which become numbers when an operation needs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from ctypes import byref
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..cpu import native

BYTES = 1 << 18  # of blocks that are decoded at once, so that intermediates stay in the processor's cache


class QuantizedMatrix(NamedTuple):
    """Codes with their scales and minima, in a format's own layout.

    Args:
        codes: dimension 0 is the outputs, unless the format says otherwise. scales, minima: of rows or groups, float32.
    """

    codes: Tensor
    scales: Tensor | None = None
    minima: Tensor | None = None


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


class BlockTensor(Tensor):
    """A tensor (..., columns) in a file's blocks, for reading: every operation of torch works on its numbers.

    Args:
        blocks: (..., bytes), uint8. Moving rows of blocks moves the rows of the tensor.
    """

    blocks: Tensor
    block_type: BlockType
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # results are plain

    @staticmethod
    def __new__(cls, blocks: Tensor, block_type: BlockType) -> BlockTensor:
        shape = *blocks.shape[:-1], blocks.shape[-1] // block_type.size * block_type.length  # bytes to numbers
        made: BlockTensor = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32, device=blocks.device)
        made.blocks, made.block_type = blocks, block_type
        return made

    def detach(self) -> BlockTensor:
        """Return a tensor of the same blocks.

        nn.Parameter calls it for each weight. A call that torch dispatches would import torch's distributed tensors,
        which takes half a second.
        """
        return BlockTensor(self.blocks, self.block_type)

    def moved(self, read: Callable[[Tensor], Tensor]) -> BlockTensor:
        """Return the tensor after `read`, which moves whole rows and changes nothing in them."""
        return BlockTensor(read(self.blocks), self.block_type)

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
        """Return the tensor dequantized."""
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

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:  # detach must not decode: nn.Parameter calls it
            return cls(args[0].blocks, args[0].block_type)
        # every other operation reads numbers and gives a plain tensor
        args, kwargs = tree_map_only(cls, cls.numbers, (args, kwargs or {}))
        return func(*args, **kwargs)


def row_slices(weight: Tensor, rows: int) -> Iterator[Tensor]:
    """Yield so many rows of a matrix at a time, in float32."""
    for part in (weight.blocks if isinstance(weight, BlockTensor) else weight).split(rows):
        yield BlockTensor(part, weight.block_type).numbers() if isinstance(weight, BlockTensor) else part.float()


def to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `x.to(dtype)`; a tensor in blocks is decoded straight to it."""
    return x.numbers(dtype) if isinstance(x, BlockTensor) else x.to(dtype)
