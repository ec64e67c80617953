"""Weights that the C++ kernels read in the order in which they are stored, at the memory's rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import native

ROWS = {  # of float32 and of bfloat16, up to which the kernels are faster than torch, by their level
    "plain": (1, 1), "avx2": (1, 1), "avx512": (64, 4), "avx512_vnni": (64, 4), "avx512_bf16": (64, 32),
    "amx": (32, 8), "amx_emulated": (32, 8),
}  # fmt: skip
COLUMNS = 8  # rows up to which they are where a weight is stored as (inputs, outputs)


def weight_layout(weight: Tensor) -> int | None:
    """Return native.h's kind of a weight (outputs, inputs) as it is stored; None where the kernels cannot read it."""
    if type(weight) not in (nn.Parameter, Tensor) or weight.dtype not in native.TYPES or weight.ndim != 2:
        return None
    first, second = weight.stride()  # of (outputs, inputs)
    if second == 1 and first >= weight.shape[1]:
        return 4 + native.TYPES[weight.dtype]  # rows of inputs
    return 6 + native.TYPES[weight.dtype] if first == 1 and second >= weight.shape[0] else None  # rows of outputs


def row_stride(weight: Tensor) -> int:
    """Return how many numbers lie from the begin of one stored row to the next."""
    return max(weight.stride())


def most_rows(dtype: torch.dtype, kind: int = 4) -> int:
    """Return up to how many rows the kernels multiply with a weight of this kind faster than torch; 0 without them."""
    level = native.level()
    rows = 0 if level is None else ROWS[level][native.TYPES[dtype]]
    return rows if kind < 6 else min(rows, COLUMNS)
