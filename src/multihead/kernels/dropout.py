"""Dropout (Srivastava et al., 2014), in the way that is fastest on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 1 << 16  # a draw of 64 bits decides for four numbers; the probability is rounded to this many levels


def dropout(x: Tensor, p: float) -> Tensor:
    """x with each number zero with probability `p`, the others divided by what is left.

    On a CPU, torch draws a number of its own for each element, one after another: three times the time of what follows.
    """
    if x.device.type != "cpu" or p >= 1.0 or torch.compiler.is_compiling():
        return F.dropout(x, p)
    level = round(p * LEVELS)
    if not level:
        return x
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - level))
