"""From GGUF's blocks of small numbers to floats, vectorized (github.com/ggml-org/ggml, ggml-quants).

Each function takes blocks (blocks, bytes) as uint8 and gives (blocks, numbers) as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ..errors import UnsupportedConfig
from .gguf import Container, Entry

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


def q4_0(b: Tensor) -> Tensor:
    return (nibbles(b[:, 2:]).to(torch.int8) - 8).float() * half(b, 0)


def q4_1(b: Tensor) -> Tensor:
    return nibbles(b[:, 4:]).float().mul_(half(b, 0)).add_(half(b, 2))


def q5_0(b: Tensor) -> Tensor:
    return ((nibbles(b[:, 6:]) | fifth_bits(b, 2)).to(torch.int8) - 16).float() * half(b, 0)


def q5_1(b: Tensor) -> Tensor:
    return (nibbles(b[:, 8:]) | fifth_bits(b, 4)).float().mul_(half(b, 0)).add_(half(b, 2))


def q8_0(b: Tensor) -> Tensor:
    return b[:, 2:].contiguous().view(torch.int8).float().mul_(half(b, 0))


def q2_k(b: Tensor) -> Tensor:
    scales, packed = b[:, :16], b[:, 16:80]
    q = (packed.unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3).flatten(1)
    scale, least = half(b, 80) * (scales & 15).float(), half(b, 82) * (scales >> 4).float()
    return (scale[..., None] * q.unflatten(1, (16, 16)).float() - least[..., None]).flatten(1)


def q3_k(b: Tensor) -> Tensor:
    mask, packed, stored = b[:, :32], b[:, 32:96], b[:, 96:108]
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    low = (packed.unflatten(1, (2, 1, 32)) >> shifts & 3).flatten(1)
    bits = (mask[:, None] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1).flatten(1)
    q = low.to(torch.int8) - ((1 - bits) << 2).to(torch.int8)
    high = (stored[:, None, 8:] >> shifts & 3).flatten(1)
    scales = (nibbles(stored[:, :8]) | (high << 4)).to(torch.int8) - 32
    scale = half(b, 108) * scales.float()
    return (scale[..., None] * q.unflatten(1, (16, 16)).float()).flatten(1)


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


def q4_k(b: Tensor) -> Tensor:
    scales, least = six_bits(b[:, 4:16])
    scale, minimum = half(b, 0) * scales, half(b, 2) * least
    return (scale[..., None] * pairs(b[:, 16:]).float() - minimum[..., None]).flatten(1)


def q5_k(b: Tensor) -> Tensor:
    scales, least = six_bits(b[:, 4:16])
    scale, minimum = half(b, 0) * scales, half(b, 2) * least
    fifth = (b[:, None, 16:48] >> torch.arange(8, dtype=torch.uint8)[:, None] & 1) << 4
    return (scale[..., None] * (pairs(b[:, 48:]) | fifth).float() - minimum[..., None]).flatten(1)


def q6_k(b: Tensor) -> Tensor:
    low = b[:, :128].unflatten(1, (2, 1, 64)) >> torch.tensor([0, 4], dtype=torch.uint8)[:, None] & 15
    high = b[:, 128:192].unflatten(1, (2, 1, 32)) >> torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None] & 3
    q = (low.unflatten(3, (2, 32)).flatten(2, 3) | (high << 4)).flatten(1).to(torch.int8) - 32
    scale = half(b, 208) * b[:, 192:208].contiguous().view(torch.int8).float()
    return (scale[..., None] * q.unflatten(1, (16, 16)).float()).flatten(1)


QUANTIZED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": q4_0,
    "Q4_1": q4_1,
    "Q5_0": q5_0,
    "Q5_1": q5_1,
    "Q8_0": q8_0,
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
}
BYTES = 1 << 20  # of blocks expanded at once, so that intermediates stay in the processor's cache


def expanded(blocks: Tensor, kind: str) -> Tensor:
    """(blocks * numbers,) float32 of blocks (blocks, bytes)."""
    expand, step = QUANTIZED[kind], max(1, BYTES // blocks.shape[1])
    if blocks.shape[0] <= step:
        return expand(blocks).flatten()
    first = expand(blocks[:step])
    out = torch.empty(blocks.shape[0], first.shape[1])
    out[:step] = first
    for begin in range(step, blocks.shape[0], step):
        out[begin : begin + step] = expand(blocks[begin : begin + step])
    return out.flatten()


class GgufTensors(Mapping[str, Tensor]):
    """The tensors of a GGUF file; each is expanded to float32 when it is asked for, plain ones are views of the map."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def __getitem__(self, name: str) -> Tensor:
        kind, stored = self.raw(name)
        shape = self.shape(name)
        if kind in PLAIN:
            return stored.view(PLAIN[kind]).view(shape)
        if kind not in QUANTIZED:
            raise UnsupportedConfig(
                f"{self.container.path}: {name!r} is stored as {kind}, which is not read here; known: "
                f"{', '.join([*PLAIN, *QUANTIZED])}. Convert the file to one of these."
            )
        return expanded(stored.view(-1, self._entry(name).kind.size), kind).view(shape)

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
