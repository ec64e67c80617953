"""The types of quantized blocks of GGUF, decoded for many blocks at once (github.com/ggml-org/ggml, ggml-quants).

A new type is a class here and its name in `BLOCK_TYPES`; `gguf.TENSOR_TYPES` has the sizes of all types already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..errors import UnsupportedConfig
from ..kernels.quantization.block_tensor import BlockTensor, BlockType
from ..kernels.quantization.coded_tensor import QuantizedMatrix
from .gguf import BY_NAME, Container, TensorInfo
from .gguf_grids import grid


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


def quarters(packed: Tensor) -> Tensor:
    """Split each 32 of 64 bytes into four rows of 2 bits, the lowest first: (blocks, 256)."""
    return (packed.unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3).flatten(1)


def halves(packed: Tensor) -> Tensor:
    """Split each of n bytes into its low half and its high half, (blocks, 2 n)."""
    return torch.stack([packed & 15, packed >> 4], 2).flatten(1)


def words(packed: Tensor) -> Tensor:
    """Return the numbers of 16 bits in 2 n bytes, (blocks, n), int64."""
    return packed.contiguous().view(torch.int16).long() & 0xFFFF


def bits(packed: Tensor) -> Tensor:
    """Return the bits of bytes, the lowest first: (..., 8)."""
    return packed[..., None] >> torch.arange(8, dtype=torch.uint8) & 1


def signs(packed: Tensor) -> Tensor:
    """Return the signs that the bits of bytes say, -1 for a one: (..., 8), int8."""
    return 1 - 2 * bits(packed).to(torch.int8)


def seven_signs(packed: Tensor) -> Tensor:
    """Return four times eight signs from the low 28 bits of numbers (..., 1): (..., 4, 8), int8."""
    return SIGNS[packed.long() >> torch.tensor([0, 7, 14, 21]) & 127]


SIGNS = signs(torch.tensor([n | (n.bit_count() & 1) << 7 for n in range(128)], dtype=torch.uint8))  # an even number
STEPS = torch.tensor(  # of IQ4: closer around zero
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=torch.int8
)
E2M1 = torch.tensor([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=torch.int8)  # doubled
UE4M3 = torch.tensor(  # halved; the sign counts for nothing, and the not-a-number 127 is zero
    [0.0 if n == 127 else (n % 8 + 8 * (n & 120 > 0)) * 2.0 ** (max(n >> 3 & 15, 1) - 11) for n in range(256)]
)


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
        bits = (mask[:, None] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1).flatten(1)
        q = quarters(packed).to(torch.int8) - ((1 - bits) << 2).to(torch.int8)
        high = (stored[:, None, 8:] >> shifts & 3).flatten(1)
        scales = (nibbles(stored[:, :8]) | (high << 4)).to(torch.int8) - 32
        return QuantizedMatrix(q, half(blocks, 108) * scales.float())


class Q2_K(GgmlBlock):
    """2 bits, a scale and a minimum of 4 bits for each 16: quantized again."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scales, packed = blocks[:, :16], blocks[:, 16:80]
        return QuantizedMatrix(
            quarters(packed), half(blocks, 80) * (scales & 15).float(), -half(blocks, 82) * (scales >> 4).float()
        )


class Q1_0(GgmlBlock):
    """1 bit, a scale for each 128: either its negative or itself."""

    format, exact = "int4", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scale = half(blocks, 0).expand(-1, 4)  # of each 32, as int4 has them
        return QuantizedMatrix(bits(blocks[:, 2:]).flatten(1), 2 * scale, -scale)


class TQ1_0(GgmlBlock):
    """Ternary digits, a scale for each 256: five digits a byte, as the first digits of a fraction in base 3."""

    format, exact = "int4", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        powers = torch.tensor([1, 3, 9, 27, 81], dtype=torch.uint8)[:, None]
        # (blocks, 5, 32), (blocks, 5, 16), (blocks, 4, 4): a digit of all bytes of a part, then the next
        parts = [blocks[:, None, :32] * powers, blocks[:, None, 32:48] * powers, blocks[:, None, 48:52] * powers[:4]]
        digits = torch.cat([part.flatten(1) for part in parts], 1).short() * 3 >> 8  # (blocks, 256)
        scale = half(blocks, 52).expand(-1, 8)  # of each 32, as int4 has them
        return QuantizedMatrix(digits.to(torch.uint8), scale, -scale)


class TQ2_0(GgmlBlock):
    """Ternary digits of 2 bits each, a scale for each 256."""

    format, exact = "int4", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        scale = half(blocks, 64).expand(-1, 8)  # of each 32, as int4 has them
        return QuantizedMatrix(quarters(blocks[:, :64]), scale, -scale)


class IQ1_S(GgmlBlock):
    """Eight weights of 1, 0 or -1 a row of a grid, with a scale and a shift of an eighth for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        more = words(blocks[:, 34:])  # (blocks, 8): a high part of each index, a scale, a sign
        high = (more[..., None] >> torch.tensor([0, 3, 6, 9]) & 7).flatten(1)  # (blocks, 32)
        shift = (1 - 2 * (more >> 15)).to(torch.int8)[..., None]  # (blocks, 8, 1)
        codes = grid("IQ1_S")[blocks[:, 2:34] | high << 8].view(len(blocks), 8, 32) + shift
        return QuantizedMatrix(codes.flatten(1), half(blocks, 0) * ((more >> 12 & 7) * 2 + 1) / 8)


class IQ1_M(GgmlBlock):
    """Eight weights of 1, 0 or -1 a row of a grid, with a scale for each 16 and a shift for each 8."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        more = halves(blocks[:, 32:48]).long()  # (blocks, 32): of each index three bits and a sign
        shift = (1 - 2 * (more >> 3)).to(torch.int8)[..., None]
        stored = words(blocks[:, 48:])  # (blocks, 4): four scales of 3 bits, and 4 bits of the block's scale
        whole = (stored >> 12 << torch.tensor([0, 4, 8, 12])).sum(1, keepdim=True)
        scales = (stored[..., None] >> torch.tensor([0, 3, 6, 9]) & 7).flatten(1) * 2 + 1  # (blocks, 16)
        codes = grid("IQ1_S")[blocks[:, :32] | (more & 7) << 8] + shift  # (blocks, 32, 8)
        return QuantizedMatrix(codes.flatten(1), whole.short().view(torch.float16).float() * scales / 8)


class IQ2_XXS(GgmlBlock):
    """Eight weights a row of a grid of 256, seven signs stored and the eighth implied; a scale for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        groups = blocks[:, 2:].unflatten(1, (8, 8))  # four indexes, then four times seven signs and a scale
        more = groups[..., 4:].contiguous().view(torch.int32)  # (blocks, 8, 1)
        codes = grid("IQ2_XXS")[groups[..., :4].long()] * seven_signs(more)  # (blocks, 8, 4, 8)
        return QuantizedMatrix(codes.flatten(1), half(blocks, 0) * ((more[..., 0] >> 28 & 15) + 0.5) / 4)


class IQ2_XS(GgmlBlock):
    """Eight weights a row of a grid of 512, seven signs stored and the eighth implied; a scale for each 16."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        stored = words(blocks[:, 2:66])  # (blocks, 32): an index of 9 bits and seven signs
        codes = grid("IQ2_XS")[stored & 511] * SIGNS[stored >> 9]  # (blocks, 32, 8)
        return QuantizedMatrix(codes.flatten(1), half(blocks, 0) * (halves(blocks[:, 66:]) + 0.5) / 4)


class IQ2_S(GgmlBlock):
    """Eight weights a row of a grid of 1024, with a sign each; a scale for each 16."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        high = (blocks[:, 66:74, None] >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8) & 3).flatten(1).long()
        codes = grid("IQ2_S")[blocks[:, 2:34] | high << 8] * signs(blocks[:, 34:66])  # (blocks, 32, 8)
        return QuantizedMatrix(codes.flatten(1), half(blocks, 0) * (halves(blocks[:, 74:]) + 0.5) / 4)


class IQ3_XXS(GgmlBlock):
    """Four weights a row of a grid of 256, of eight signs seven stored and one implied; a scale for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        more = blocks[:, 66:].contiguous().view(torch.int32)[..., None]  # (blocks, 8, 1): seven signs, a scale
        codes = grid("IQ3_XXS")[blocks[:, 2:66].long()].view(len(blocks), 8, 4, 8) * seven_signs(more)
        return QuantizedMatrix(codes.flatten(1), half(blocks, 0) * ((more[..., 0] >> 28 & 15) + 0.5) / 2)


class IQ3_S(GgmlBlock):
    """Four weights a row of a grid of 512, with a sign each; a scale for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        index = blocks[:, 2:66] | bits(blocks[:, 66:74]).flatten(1).long() << 8  # (blocks, 64)
        codes = grid("IQ3_S")[index].view(len(blocks), 32, 8) * signs(blocks[:, 74:106])
        return QuantizedMatrix(codes.flatten(1), half(blocks, 0) * (halves(blocks[:, 106:]) * 2.0 + 1))


class IQ4_NL(GgmlBlock):
    """4 bits that name one of sixteen uneven steps, a scale for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix(STEPS[nibbles(blocks[:, 2:]).long()], half(blocks, 0))


class IQ4_XS(GgmlBlock):
    """4 bits that name one of sixteen uneven steps, a scale of 6 bits for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        packed = blocks[:, 8:].unflatten(1, (8, 16))
        high = words(blocks[:, 2:4]) >> torch.arange(0, 16, 2) & 3  # (blocks, 8)
        scales = (halves(blocks[:, 4:8]) | high << 4) - 32
        return QuantizedMatrix(
            STEPS[torch.cat([packed & 15, packed >> 4], 2).long()].flatten(1), half(blocks, 0) * scales
        )


class MXFP4(GgmlBlock):
    """Floating-point numbers of 4 bits, as a code twice as large; a power of two for each 32."""

    format, exact = "int8g", True

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        power = blocks[:, :1].int()  # (blocks, 1): of half the scale; the two lowest are below the normal numbers
        scale = torch.where(power < 2, 0x200000 << power.clamp_max(1), power - 1 << 23).view(torch.float32)
        return QuantizedMatrix(E2M1[nibbles(blocks[:, 1:]).long()], scale)


class NVFP4(GgmlBlock):
    """Floating-point numbers of 4 bits, as a code twice as large; a scale of 8 bits for each 16."""

    format, exact = "int8g", False

    @staticmethod
    def decode(blocks: Tensor) -> QuantizedMatrix:
        packed = blocks[:, 4:].unflatten(1, (4, 8))
        codes = E2M1[torch.cat([packed & 15, packed >> 4], 2).long()]  # (blocks, 4, 16)
        return QuantizedMatrix(codes.flatten(1), UE4M3[blocks[:, :4].long()])


BLOCK_TYPES: Mapping[str, BlockType] = {
    block_type.name: block_type
    for block_type in (
        Q4_0(), Q4_1(), Q4_K(), Q5_0(), Q8_0(), Q5_1(), Q5_K(), Q6_K(), Q3_K(), Q2_K(), Q1_0(), TQ1_0(), TQ2_0(),
        IQ1_S(), IQ1_M(), IQ2_XXS(), IQ2_XS(), IQ2_S(), IQ3_XXS(), IQ3_S(), IQ4_NL(), IQ4_XS(), MXFP4(), NVFP4(),
    )
}  # fmt: skip


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
            self.container.buffers[entry.part], dtype=torch.uint8, count=entry.size, offset=entry.start
        )

    def _entry(self, name: str) -> TensorInfo:
        return self.container.tensors[name]
