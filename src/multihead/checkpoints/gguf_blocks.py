"""GGUF's blocks of small numbers, taken apart and vectorized (github.com/ggml-org/ggml, ggml-quants).

Each function takes blocks (blocks, bytes) as uint8 and gives the codes, scales and minima that `kernels.stored` knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..errors import UnsupportedConfig
from ..kernels.stored import Form, Parts, Stored
from .gguf import KINDS, Container, Entry

PLAIN = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}


def half(blocks: Tensor, begin: int) -> Tensor:
    """(blocks, 1): the float16 at a byte."""
    return blocks[:, begin : begin + 2].contiguous().view(torch.float16).float()


def nibbles(packed: Tensor) -> Tensor:
    """(blocks, 2 n): low halves of n bytes, then high halves."""
    return torch.cat([packed & 15, packed >> 4], 1)


def fifth_bits(blocks: Tensor, begin: int) -> Tensor:
    """(blocks, 32): the bits of four bytes, at the value 16."""
    places = torch.arange(8, dtype=torch.uint8)
    return ((blocks[:, begin : begin + 4, None] >> places & 1) << 4).flatten(1)


def q4_0(b: Tensor) -> Parts:
    scale = half(b, 0)
    return nibbles(b[:, 2:]), scale, scale * -8


def q4_1(b: Tensor) -> Parts:
    return nibbles(b[:, 4:]), half(b, 0), half(b, 2)


def q5_0(b: Tensor) -> Parts:
    return (nibbles(b[:, 6:]) | fifth_bits(b, 2)).to(torch.int8) - 16, half(b, 0), None


def q5_1(b: Tensor) -> Parts:
    return nibbles(b[:, 8:]) | fifth_bits(b, 4), half(b, 0), half(b, 2)


def q8_0(b: Tensor) -> Parts:
    return b[:, 2:].contiguous().view(torch.int8), half(b, 0), None


def q2_k(b: Tensor) -> Parts:
    scales, packed = b[:, :16], b[:, 16:80]
    q = (packed.unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3).flatten(1)
    return q, half(b, 80) * (scales & 15).float(), -half(b, 82) * (scales >> 4).float()


def q3_k(b: Tensor) -> Parts:
    mask, packed, stored = b[:, :32], b[:, 32:96], b[:, 96:108]
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    low = (packed.unflatten(1, (2, 1, 32)) >> shifts & 3).flatten(1)
    bits = (mask[:, None] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1).flatten(1)
    q = low.to(torch.int8) - ((1 - bits) << 2).to(torch.int8)
    high = (stored[:, None, 8:] >> shifts & 3).flatten(1)
    scales = (nibbles(stored[:, :8]) | (high << 4)).to(torch.int8) - 32
    return q, half(b, 108) * scales.float(), None


def six_bits(s: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minima of six bits each, from twelve bytes: both (blocks, 8)."""
    first, second, third = s[:, :4], s[:, 4:8], s[:, 8:]
    scales = torch.cat([first & 63, (third & 15) | (first >> 6 << 4)], 1)
    least = torch.cat([second & 63, (third >> 4) | (second >> 6 << 4)], 1)
    return scales.float(), least.float()


def pairs(packed: Tensor) -> Tensor:
    """(blocks, 8, 32): each 32 bytes give a row of low halves and a row of high ones."""
    rows = packed.unflatten(1, (4, 32))
    return torch.stack([rows & 15, rows >> 4], 2).flatten(1, 2)


def q4_k(b: Tensor) -> Parts:
    scales, least = six_bits(b[:, 4:16])
    return pairs(b[:, 16:]).flatten(1), half(b, 0) * scales, -half(b, 2) * least


def q5_k(b: Tensor) -> Parts:
    scales, least = six_bits(b[:, 4:16])
    fifth = (b[:, None, 16:48] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1) << 4
    return (pairs(b[:, 48:]) | fifth).flatten(1), half(b, 0) * scales, -half(b, 2) * least


def q6_k(b: Tensor) -> Parts:
    low = b[:, :128].unflatten(1, (2, 1, 64)) >> torch.tensor([0, 4], dtype=torch.uint8)[:, None] & 15
    high = b[:, 128:192].unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3
    q = (low.unflatten(3, (2, 32)).flatten(2, 3) | (high << 4)).flatten(1).to(torch.int8) - 32
    return q, half(b, 208) * b[:, 192:208].contiguous().view(torch.int8).float(), None


SIZES = {kind.name: (kind.block, kind.size) for kind in KINDS.values()}
FORMS: Mapping[str, Form] = {
    # a scale, or a scale and a minimum, for each 32 codes, as `kernels.packed` has them
    "Q4_0": Form(*SIZES["Q4_0"], q4_0, "int4", same=True),
    "Q4_1": Form(*SIZES["Q4_1"], q4_1, "int4", same=True),
    "Q4_K": Form(*SIZES["Q4_K"], q4_k, "int4", same=True),
    "Q5_0": Form(*SIZES["Q5_0"], q5_0, "int8g", same=True),
    "Q8_0": Form(*SIZES["Q8_0"], q8_0, "int8g", same=True),
    # codes of more than 4 bits with a minimum, or a scale for each 16
    "Q5_1": Form(*SIZES["Q5_1"], q5_1, "int8g", same=False),
    "Q5_K": Form(*SIZES["Q5_K"], q5_k, "int8g", same=False),
    "Q6_K": Form(*SIZES["Q6_K"], q6_k, "int8g", same=False),
    "Q3_K": Form(*SIZES["Q3_K"], q3_k, "int8g", same=False),
    "Q2_K": Form(*SIZES["Q2_K"], q2_k, "int8g", same=False),
}


class GgufTensors(Mapping[str, Tensor]):
    """The tensors of a GGUF file; each is expanded to float32 when it is asked for, plain ones are views of the map.

    Args:
        blocks: matrices of codes are given as they are, `Stored`.
    """

    def __init__(self, container: Container, *, blocks: bool = False) -> None:
        self.container, self.blocks = container, blocks

    def __getitem__(self, name: str) -> Tensor:
        kind, stored = self.raw(name)
        shape = self.shape(name)
        if kind in PLAIN:
            return stored.view(PLAIN[kind]).view(shape)
        if kind not in FORMS:
            raise UnsupportedConfig(
                f"{self.container.path}: {name!r} is stored as {kind}, which is not read here; known: "
                f"{', '.join([*PLAIN, *FORMS])}. Convert the file to one of these."
            )
        form = FORMS[kind]
        found = Stored(stored.view(*shape[:-1], shape[-1] // form.numbers * form.size), form)
        return found if self.blocks and len(shape) > 1 else found.numbers()

    def __iter__(self) -> Iterator[str]:
        return iter(self.container.tensors)

    def __len__(self) -> int:
        return len(self.container.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, rows first, without reading it."""
        return self._entry(name).shape

    def raw(self, name: str) -> tuple[str, Tensor]:
        """A tensor's type and its bytes (uint8), as they are stored."""
        entry = self._entry(name)
        if not entry.size:
            return entry.kind.name, torch.empty(0, dtype=torch.uint8)
        return entry.kind.name, torch.frombuffer(
            self.container.buffer, dtype=torch.uint8, count=entry.size, offset=entry.start
        )

    def _entry(self, name: str) -> Entry:
        return self.container.tensors[name]
