"""Quantize numbers to the blocks of GGUF (github.com/ggml-org/ggml, ggml-quants): the inverse of gguf_blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from ..errors import InvalidInput
from .gguf import BY_NAME
from .gguf_fitting import ShiftedFit, SignedFit, fit_range, fit_shifted, fit_signed

NUMBERS = 1 << 15  # that are fitted at once, so that intermediates stay in the processor's cache
SPREAD, CALIBRATED = 1.0, 2.0  # how far small weights count as much as large ones, without importances and with
LARGEST = 1e15  # a number whose squares sum up in float32; scales hold less
FLOOR = 1e-4  # of the mean importance: a weight that no input reached still keeps its value roughly

Encoder = Callable[[Tensor, Tensor], Tensor]  # (blocks, length) numbers and importances -> (blocks, bytes)


def encode(rows: Tensor, kind: str, importance: Tensor | None = None) -> Iterator[Tensor]:
    """Yield the blocks of rows in their order, uint8, many at a time.

    Args:
        rows: (rows, columns), columns a multiple of the type's length. kind: a name in `ENCODERS`.
        importance: (columns,): mean squared inputs of a column's weights.

    Raises:
        InvalidInput: numbers that are not finite, or too large for a scale in half precision.
    """
    encoder, length = ENCODERS[kind], BY_NAME[kind].length
    count = max(1, NUMBERS // rows.shape[-1])  # of rows

    def part(begin: int) -> Tensor:
        x = rows[begin : begin + count].float()
        if not x.isfinite().all():
            raise InvalidInput("These weights are not all finite numbers, so they cannot be quantized.")
        blocks = x.reshape(-1, length)
        given = None if importance is None else importance.float().expand(len(x), -1).reshape(-1, length)
        found = encoder(blocks, weigh(blocks, given))
        scales = found[:, SCALES[kind]].contiguous().view(torch.float16)
        if x.abs().max() > LARGEST or not scales.isfinite().all():
            raise InvalidInput(f"A weight is too large for {kind}, whose scales are in half precision.")
        return found

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        starts = range(0, len(rows), count)
        for first in range(0, len(starts), 256):  # so that not all blocks are kept
            yield from pool.map(part, starts[first : first + 256])


def weigh(blocks: Tensor, given: Tensor | None) -> Tensor:
    """Return the importance of each number: large weights matter more than their squared error says.

    Args:
        given: mean squared inputs, (blocks, length); None where all are alike.
    """
    spread = blocks.square().mean(-1, keepdim=True)
    own = ((SPREAD if given is None else CALIBRATED) * spread + blocks.square()).sqrt_()
    own = own.add_(own.mean(-1, keepdim=True), alpha=FLOOR).add_(1e-30)
    if given is None:
        return own
    level = given.mean(-1, keepdim=True)
    return own * torch.where(level > 0, given / level.clamp_min(1e-30) + FLOOR, 1.0)


def as_bytes(x: Tensor) -> Tensor:
    """Return half-precision numbers (blocks, n) as bytes (blocks, 2 n)."""
    return x.half().contiguous().view(torch.uint8)


def code_bytes(codes: Tensor, zero: int = 0) -> Tensor:
    """Return codes as unsigned bytes, flat in each block: (blocks, length)."""
    return (codes.flatten(1) + zero).to(torch.uint8)


def join_nibbles(codes: Tensor) -> Tensor:
    """Put the second half of each block's codes into the high halves of bytes."""
    low, high = codes.chunk(2, 1)
    return low | high << 4


def join_bits(codes: Tensor) -> Tensor:
    """Put eight single bits a byte, the lowest first."""
    places = torch.arange(8, dtype=torch.uint8)
    return (codes.unflatten(1, (-1, 8)) << places).sum(-1, dtype=torch.uint8)


def join_rows(rows: Tensor, shifts: tuple[int, ...]) -> Tensor:
    """Put rows (blocks, parts, rows, bytes) of few bits into the same bytes: (blocks, parts * bytes)."""
    places = torch.tensor(shifts, dtype=torch.uint8)[:, None]
    return (rows << places).sum(2, dtype=torch.uint8).flatten(1)


def join_six_bits(scales: Tensor, minima: Tensor) -> Tensor:
    """Put eight scales and eight minima of six bits into twelve bytes."""
    s, m = scales.to(torch.uint8), minima.to(torch.uint8)
    first, second = (x[:, :4] | x[:, 4:] >> 4 << 6 for x in (s, m))
    return torch.cat([first, second, (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4], 1)


def fit_alone(blocks: Tensor, importance: Tensor, low: int) -> tuple[Tensor, Tensor]:
    """Fit one scale a block: signed codes (blocks, length) and scales (blocks, 1)."""
    fit = fit_signed(blocks[:, None], importance[:, None], low, -1)
    return fit.codes[:, 0], (fit.scales * fit.whole)[:, 0]


def q4_0(blocks: Tensor, importance: Tensor) -> Tensor:
    codes, scales = fit_alone(blocks, importance, -8)
    return torch.cat([as_bytes(scales), join_nibbles(code_bytes(codes, 8))], 1)


def q4_1(blocks: Tensor, importance: Tensor) -> Tensor:
    fit = fit_range(blocks[:, None], importance[:, None], 15)
    parts = as_bytes(fit.whole[:, 0]), as_bytes(-fit.least[:, 0]), join_nibbles(code_bytes(fit.codes))
    return torch.cat(parts, 1)


def q5_0(blocks: Tensor, importance: Tensor) -> Tensor:
    codes, scales = fit_alone(blocks, importance, -16)
    flat = code_bytes(codes, 16)
    return torch.cat([as_bytes(scales), join_bits(flat >> 4), join_nibbles(flat & 15)], 1)


def q5_1(blocks: Tensor, importance: Tensor) -> Tensor:
    fit = fit_range(blocks[:, None], importance[:, None], 31)
    flat = code_bytes(fit.codes)
    parts = as_bytes(fit.whole[:, 0]), as_bytes(-fit.least[:, 0]), join_bits(flat >> 4), join_nibbles(flat & 15)
    return torch.cat(parts, 1)


def q8_0(blocks: Tensor, importance: Tensor) -> Tensor:
    """Quantize by the largest magnitude: a search gains next to nothing with so many codes."""
    scale = blocks.abs().amax(1, keepdim=True) / 127
    codes = torch.where(scale > 0, blocks / scale.clamp_min(1e-38), 0.0).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([as_bytes(scale), codes.view(torch.uint8)], 1)


def shifted(blocks: Tensor, importance: Tensor, groups: int, high: int, top: int) -> tuple[ShiftedFit, Tensor]:
    """Fit blocks of groups with scales and minima; return the fit and its codes, (blocks, 256)."""
    fit = fit_shifted(blocks.unflatten(1, (groups, -1)), importance.unflatten(1, (groups, -1)), high, top)
    return ShiftedFit(*(part.flatten(1) for part in fit)), code_bytes(fit.codes)


def signed(blocks: Tensor, importance: Tensor, low: int, top: int) -> SignedFit:
    """Fit blocks of sixteen groups with signed scales."""
    fit = fit_signed(blocks.unflatten(1, (16, 16)), importance.unflatten(1, (16, 16)), low, top)
    return SignedFit(*(part.flatten(1) for part in fit))


def q2_k(blocks: Tensor, importance: Tensor) -> Tensor:
    fit, codes = shifted(blocks, importance, 16, 3, 15)
    scales = fit.scales.to(torch.uint8) | fit.minima.to(torch.uint8) << 4
    packed = join_rows(codes.unflatten(1, (2, 4, 32)), (0, 2, 4, 6))
    return torch.cat([scales, packed, as_bytes(fit.whole), as_bytes(fit.least)], 1)


def q3_k(blocks: Tensor, importance: Tensor) -> Tensor:
    fit = signed(blocks, importance, -4, -32)
    codes, scales = code_bytes(fit.codes, 4), code_bytes(fit.scales, 32)
    mask = join_rows((codes >> 2).unflatten(1, (1, 8, 32)), tuple(range(8)))
    packed = join_rows((codes & 3).unflatten(1, (2, 4, 32)), (0, 2, 4, 6))
    high = join_rows((scales >> 4).unflatten(1, (1, 4, 4)), (0, 2, 4, 6))
    return torch.cat([mask, packed, join_nibbles(scales & 15), high, as_bytes(fit.whole)], 1)


def q4_k(blocks: Tensor, importance: Tensor) -> Tensor:
    fit, codes = shifted(blocks, importance, 8, 15, 63)
    packed = join_rows(codes.unflatten(1, (4, 2, 32)), (0, 4))
    scales = join_six_bits(fit.scales, fit.minima)
    return torch.cat([as_bytes(fit.whole), as_bytes(fit.least), scales, packed], 1)


def q5_k(blocks: Tensor, importance: Tensor) -> Tensor:
    fit, codes = shifted(blocks, importance, 8, 31, 63)
    high = join_rows((codes >> 4).unflatten(1, (1, 8, 32)), tuple(range(8)))
    packed = join_rows((codes & 15).unflatten(1, (4, 2, 32)), (0, 4))
    scales = join_six_bits(fit.scales, fit.minima)
    return torch.cat([as_bytes(fit.whole), as_bytes(fit.least), scales, high, packed], 1)


def q6_k(blocks: Tensor, importance: Tensor) -> Tensor:
    fit = signed(blocks, importance, -32, -128)
    codes = code_bytes(fit.codes, 32)
    low = join_rows((codes & 15).unflatten(1, (2, 2, 64)), (0, 4))
    high = join_rows((codes >> 4).unflatten(1, (2, 4, 32)), (0, 2, 4, 6))
    return torch.cat([low, high, fit.scales.to(torch.int8).view(torch.uint8), as_bytes(fit.whole)], 1)


ENCODERS: Mapping[str, Encoder] = {
    "Q4_0": q4_0, "Q4_1": q4_1, "Q5_0": q5_0, "Q5_1": q5_1, "Q8_0": q8_0,
    "Q2_K": q2_k, "Q3_K": q3_k, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k,
}  # fmt: skip
SCALES: Mapping[str, slice] = {  # bytes of the half-precision numbers of a block
    "Q4_0": slice(2), "Q4_1": slice(4), "Q5_0": slice(2), "Q5_1": slice(4), "Q8_0": slice(2),
    "Q2_K": slice(80, 84), "Q3_K": slice(108, 110), "Q4_K": slice(4), "Q5_K": slice(4), "Q6_K": slice(208, 210),
}  # fmt: skip
