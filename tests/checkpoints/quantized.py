"""Writers of quantized weights, by Python's own numbers, and their readers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multihead.checkpoints.quantized.format import open_format
from multihead.checkpoints.quantized.tensors import QuantizedTensors


def opened(entries: dict[str, Any], parts: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> QuantizedTensors:
    """Return the tensors of a module `m`, whose parts are given."""
    found = QuantizedTensors({f"m.{part}": x for part, x in parts.items()}, open_format(entries), "a file")
    found.dtype = dtype
    return found


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack whole numbers along the last axis into int32, bit after bit, by Python's own numbers."""
    rows = []
    for row in codes.reshape(-1, codes.shape[-1]).tolist():
        stream = sum(code << bits * place for place, code in enumerate(row))
        words = [stream >> 32 * i & 0xFFFFFFFF for i in range(-(-len(row) * bits // 32))]
        rows.append([word - (word >> 31 << 32) for word in words])
    return torch.tensor(rows, dtype=torch.int32).view(*codes.shape[:-1], -1)


def rounded(weight: Tensor, bits: int, size: int, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes (rows, columns) that begin at 0; scales in half precision and zeros (rows, groups)."""
    groups = weight.unflatten(1, (-1, size))
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    middle, most = 2 ** (bits - 1), 2**bits - 1
    span = 2 * torch.maximum(-low, high) if symmetric else high - low
    scales = (span / most).half()
    zeros = torch.full_like(low, middle) if symmetric else (-low / scales.float()).round().clamp(0, most)
    codes = (groups / scales.float()[..., None] + zeros[..., None]).round().clamp(0, most)
    return codes.flatten(1).long(), scales, zeros.long()


def numbers(codes: Tensor, scales: Tensor, zeros: Tensor, index: Tensor) -> Tensor:
    return (codes - zeros[:, index]).double().mul(scales.double()[:, index]).float()
