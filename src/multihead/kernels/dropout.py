"""Dropout (Srivastava et al., 2014), in the way that is fastest on the device."""

from __future__ import annotations

from ctypes import byref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cpu import native

LEVELS = 1 << 16  # a draw of 64 bits decides for four numbers; the probability is rounded to this many levels
FINER = 1 << 32  # likewise in the kernel


def dropout(x: Tensor, p: float) -> Tensor:
    """x with each number zero with probability `p`, the others divided by what is left.

    On a CPU, torch draws a number of its own for each element, one after another: three times the time of what follows.
    """
    if x.device.type != "cpu" or p >= 1.0 or torch.compiler.is_compiling():
        return F.dropout(x, p)
    if native.serves(x.detach()):
        seed = int(torch.empty((), dtype=torch.int64).random_())
        return Dropped.apply(x, p, seed)
    level = round(p * LEVELS)
    if not level:
        return x
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - level))


class Dropped(torch.autograd.Function):
    """What a seed leaves of x, and of its gradient: no mask is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        x = x.contiguous()
        y = torch.empty_like(x)
        level = min(round(p * FINER), FINER - 1)
        said = native.Drop(
            x=x.data_ptr(), y=y.data_ptr(), count=x.numel(), seed=seed, threshold=level,
            scale=FINER / (FINER - level), type=native.TYPES[x.dtype],
        )  # fmt: skip
        library = native.library()
        assert library is not None
        library.mh_drop(byref(said), torch.get_num_threads())
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return Dropped.apply(gradient, ctx.p, ctx.seed), None, None
