"""Normalizations that torch.nn lacks, or computes in another order of casts."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x over its root mean square (Zhang and Sennrich, 2019, arXiv:1910.07467).

    The mean is taken in float32; the result is cast back before the weight multiplies it, as Llama does.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)
