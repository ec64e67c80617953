"""The types of quantized blocks of GGUF, decoded for many blocks at once (github.com/ggml-org/ggml, ggml-quants).

A new type is a class here and its name in `BLOCK_TYPES`; `gguf.TENSOR_TYPES` has the sizes of all types already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..errors import UnsupportedConfig
from ..kernels.quantization.block_tensor import BlockTensor, BlockType, QuantizedMatrix
from .gguf import BY_NAME, Container, TensorInfo


class GgmlBlock(BlockType):
    """A block type of ggml, named as its class."""

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__
        row = BY_NAME[cls.name]
        cls.length, cls.size, cls.number = row.length, row.size, row.number


def half(blocks: Tensor, begin: int) -> Tensor:
    """Return the float16 number at a byte of each block, (blocks, 1), in float32."""
    return blocks[:, begin : begin + 2].contiguous().view(torch.float16).float()


def nibbles(packed: Tensor) -> Tensor:
    """Split n bytes of each block: low halves, then high halves, (blocks, 2 n)."""
    return torch.cat([packed & 15, packed >> 4], 1)


def fifth_bits(blocks: Tensor, begin: int) -> Tensor:
    """Return the 32 bits of four bytes of each block, as 0 or 16, (blocks, 32)."""
    places = torch.arange(8, dtype=torch.uint8)
    return ((blocks[:, begin : begin + 4, None] >> places & 1) << 4).flatten(1)


def six_bits(s: Tensor) -> tuple[Tensor, Tensor]:
    """Return eight scales and eight minima of six bits each from twelve bytes: both (blocks, 8), float32."""
    first, second, third = s[:, :4], s[:, 4:8], s[:, 8:]
    scales = torch.cat([first & 63, (third & 15) | (first >> 6 << 4)], 1)
    least = torch.cat([second & 63, (third >> 4) | (second >> 6 << 4)], 1)
    return scales.float(), least.float()


def pairs(packed: Tensor) -> Tensor:
    """Split each 32 bytes into a row of low halves and a row of high halves, (blocks, 8, 32)."""
    rows = packed.unflatten(1, (4, 32))
    return torch.stack([rows & 15, rows >> 4], 2).flatten(1, 2)


class Q4_0(GgmlBlock):
    """4 bits around zero, a scale for each 32."""

    format, exact = "int4", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scale = half(blocks, 0)
        return QuantizedMatrix(nibbles(blocks[:, 2:]), scale, scale * -8)


class Q4_1(GgmlBlock):
    """4 bits, a scale and a minimum for each 32."""

    format, exact = "int4", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix(nibbles(blocks[:, 4:]), half(blocks, 0), half(blocks, 2))


class Q4_K(GgmlBlock):
    """4 bits, a scale and a minimum of 6 bits for each 32. Both are rounded to half precision in int4."""

    format, exact = "int4", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scales, least = six_bits(blocks[:, 4:16])
        return QuantizedMatrix(pairs(blocks[:, 16:]).flatten(1), half(blocks, 0) * scales, -half(blocks, 2) * least)


class Q5_0(GgmlBlock):
    """5 bits around zero, a scale for each 32: the codes fit into 8."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix((nibbles(blocks[:, 6:]) | fifth_bits(blocks, 2)).to(torch.int8) - 16, half(blocks, 0))


class Q8_0(GgmlBlock):
    """8 bits, a scale for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix(blocks[:, 2:].contiguous().view(torch.int8), half(blocks, 0))

    @staticmethod
    def encode(rows: Tensor) -> Tensor:
        values = rows.float().reshape(-1, 32)
        scale = values.abs().amax(1, keepdim=True) / 127
        codes = torch.where(scale > 0, values / scale.clamp_min(1e-38), 0.0).round().clamp(-127, 127).to(torch.int8)
        return torch.cat([scale.half().contiguous().view(torch.uint8), codes.view(torch.uint8)], 1)


class Q5_1(GgmlBlock):
    """5 bits, a scale and a minimum for each 32: quantized again."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix(nibbles(blocks[:, 8:]) | fifth_bits(blocks, 4), half(blocks, 0), half(blocks, 2))


class Q5_K(GgmlBlock):
    """5 bits, a scale and a minimum of 6 bits for each 32: quantized again."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scales, least = six_bits(blocks[:, 4:16])
        fifth = (blocks[:, None, 16:48] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1) << 4
        return QuantizedMatrix(
            (pairs(blocks[:, 48:]) | fifth).flatten(1), half(blocks, 0) * scales, -half(blocks, 2) * least
        )


class Q6_K(GgmlBlock):
    """6 bits, a scale of 8 bits for each 16: quantized again."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        low = blocks[:, :128].unflatten(1, (2, 1, 64)) >> torch.tensor([0, 4], dtype=torch.uint8)[:, None] & 15
        high = blocks[:, 128:192].unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3
        q = (low.unflatten(3, (2, 32)).flatten(2, 3) | (high << 4)).flatten(1).to(torch.int8) - 32
        return QuantizedMatrix(q, half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8).float())


class Q3_K(GgmlBlock):
    """3 bits, a scale of 6 bits for each 16: quantized again."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        mask, packed, stored = blocks[:, :32], blocks[:, 32:96], blocks[:, 96:108]
        shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
        low = (packed.unflatten(1, (2, 1, 32)) >> shifts & 3).flatten(1)
        bits = (mask[:, None] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1).flatten(1)
        q = low.to(torch.int8) - ((1 - bits) << 2).to(torch.int8)
        high = (stored[:, None, 8:] >> shifts & 3).flatten(1)
        scales = (nibbles(stored[:, :8]) | (high << 4)).to(torch.int8) - 32
        return QuantizedMatrix(q, half(blocks, 108) * scales.float())


class Q2_K(GgmlBlock):
    """2 bits, a scale and a minimum of 4 bits for each 16: quantized again."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scales, packed = blocks[:, :16], blocks[:, 16:80]
        q = (packed.unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3).flatten(1)
        return QuantizedMatrix(q, half(blocks, 80) * (scales & 15).float(), -half(blocks, 82) * (scales >> 4).float())


BLOCK_TYPES: Mapping[str, BlockType] = {
    block_type.name: block_type
    for block_type in (Q4_0(), Q4_1(), Q4_K(), Q5_0(), Q8_0(), Q5_1(), Q5_K(), Q6_K(), Q3_K(), Q2_K())
}


class GgufTensors(Mapping[str, Tensor]):
    """The tensors of a GGUF file. Reading one dequantizes it to float32; one without codes is a view of the map.

    Args:
        blocks: return matrices of codes as `BlockTensor`, not dequantized.
    """

    def __init__(self, container: Container, *, blocks: bool = False) -> None:
        self.container, self.blocks = container, blocks

    def __getitem__(self, name: str) -> Tensor:
        kind, stored = self.raw(name)
        shape = self.shape(name)
        if dtype := BY_NAME[kind].dtype:
            return stored.view(getattr(torch, dtype)).view(shape)
        if kind not in BLOCK_TYPES:
            plain = [row.name for row in BY_NAME.values() if row.dtype]
            raise UnsupportedConfig(
                f"{self.container.path}: {name!r} is stored as {kind}, which is not read here; known: "
                f"{', '.join([*plain, *BLOCK_TYPES])}. Convert the file to one of these."
            )
        block_type = BLOCK_TYPES[kind]
        found = BlockTensor(stored.view(*shape[:-1], shape[-1] // block_type.length * block_type.size), block_type)
        return found if self.blocks and len(shape) > 1 else found.numbers()

    def __iter__(self) -> Iterator[str]:
        return iter(self.container.tensors)

    def __len__(self) -> int:
        return len(self.container.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, rows first, without reading the tensor."""
        return self._entry(name).shape

    def raw(self, name: str) -> tuple[str, Tensor]:
        """Return a tensor's type and its bytes (uint8), as they are stored."""
        entry = self._entry(name)
        if not entry.size:
            return entry.type.name, torch.empty(0, dtype=torch.uint8)
        return entry.type.name, torch.frombuffer(
            self.container.buffer, dtype=torch.uint8, count=entry.size, offset=entry.start
        )

    def _entry(self, name: str) -> TensorInfo:
        return self.container.tensors[name]
