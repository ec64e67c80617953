"""Weights in 8 or 4 bits, and products with them that keep nothing wider than the codes.

int8: a scale a row, the largest magnitude at 127. int4: the NF4 code of QLoRA (Dettmers et al., 2023,
arXiv:2305.14314), blocks of 64 values with a scale each, two codes a byte, the first in the high half.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption

KINDS = ("int8", "int4")
BLOCK = 64
SLICE = 2**14  # blocks that are coded or decoded at once
NF4 = (  # quantiles of the standard normal distribution with an exact zero, over the largest (appendix E)
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def quantize(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Codes and float32 scales of a matrix (outputs, inputs).

    int8: codes (outputs, inputs), scales (outputs, 1). int4: codes (bytes,), scales (blocks, 1), over the rows laid
    end to end; the last block is filled up with zeros.

    Raises:
        UnsupportedOption: another kind. InvalidInput: weights that are not finite.
    """
    if kind not in KINDS:
        raise UnsupportedOption(f"Weights are quantized to {' or '.join(KINDS)}, not {kind!r}.")
    if kind == "int8":
        scales = _largest(weight).div_(127)
        return (weight.float() / scales).round_().to(torch.int8), scales
    flat = weight.detach().flatten()
    parts = [_coded(part) for part in flat.split(SLICE * BLOCK)]
    return torch.cat([codes for codes, _ in parts]), torch.cat([scales for _, scales in parts])


def dequantize(codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The matrix (outputs, inputs) that codes stand for."""
    if codes.dtype == torch.int8:
        return (codes * scales).to(dtype)
    out = torch.empty(codes.shape[0] * 2, dtype=dtype, device=codes.device)
    values = torch.tensor(NF4, device=codes.device)
    pairs = torch.stack([values.repeat_interleave(16), values.repeat(16)], 1)  # of each byte
    blocks = out.view(-1, BLOCK)
    for first in range(0, len(blocks), SLICE):
        part = slice(first, first + SLICE)
        found = F.embedding(codes[first * BLOCK // 2 : (first + SLICE) * BLOCK // 2].int(), pairs)
        blocks[part] = (found.view(-1, BLOCK) * scales[part]).to(dtype)
    return out[: shape[0] * shape[1]].view(shape)


def product(x: Tensor, codes: Tensor, scales: Tensor, shape: tuple[int, int], bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, (..., inputs) to (..., outputs), of a weight in codes; gradients go to x and bias alone."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    out = _Product.apply(x, codes, scales, shape)
    return out if bias is None else out + bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """Decodes the weight in each direction anew, so that no copy of it waits for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.shape = shape
        return F.linear(x, dequantize(codes, scales, shape, x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,), (codes, scales) = grads, ctx.saved_tensors
        return grad @ dequantize(codes, scales, ctx.shape, grad.dtype), None, None, None


def _coded(flat: Tensor) -> tuple[Tensor, Tensor]:
    blocks = F.pad(flat.float(), (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = _largest(blocks)
    blocks = blocks / scales
    nearest = torch.zeros_like(blocks, dtype=torch.uint8)
    for low, high in pairwise(NF4):  # counting is several times faster here than torch's binary search
        nearest += blocks > (low + high) / 2
    pairs = nearest.view(-1, 2)
    return (pairs[:, 0] << 4) | pairs[:, 1], scales


def _largest(rows: Tensor) -> Tensor:
    """The largest magnitude of each row, (rows, 1) in float32; 1 for a row of zeros."""
    found = rows.detach().float().abs().amax(1, keepdim=True)
    if not found.isfinite().all():
        raise InvalidInput(
            "These weights are not all finite numbers, so they cannot be quantized; check the checkpoint."
        )
    return found.masked_fill_(found == 0, 1.0)
