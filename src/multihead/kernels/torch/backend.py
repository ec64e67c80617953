"""The operations in torch, on any device. Other backends inherit what they have no kernel for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import Angles, Backend, Bias
from ..ragged import AttentionMask
from . import sdpa
from .linear import linear

DROPOUT_LEVELS = 1 << 16  # a draw of 64 bits decides for four numbers; the probability is rounded to this many levels


class TorchBackend(Backend):
    name = "torch"

    def reason(self) -> str:
        return ""

    def serves(self, x: Tensor) -> bool:
        return True

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias) if x.is_cpu else F.linear(x, weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, centre: float = 0.0, wide: bool = False) -> Tensor:
        normed = x.float()
        normed = normed * torch.rsqrt(normed.pow(2).mean(-1, keepdim=True) + eps)
        if not wide:
            return weight * normed.to(weight.dtype)
        weight = weight.float()
        return ((weight + centre if centre else weight) * normed).to(x.dtype)

    def rotary(
        self, q: Tensor, k: Tensor, angles: Callable[[], Angles], table: Callable[[], Angles]
    ) -> tuple[Tensor, Tensor]:
        cosines, sines = table()
        return rotate(q, cosines, sines), rotate(k, cosines, sines)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention_mask: AttentionMask,
        *,
        scale: float,
        bias: Bias | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        return sdpa.attention(
            q, k, v, attention_mask, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks
        )

    def top_k(self, scores: Tensor, count: int, banned: Sequence[int], log_probs: bool) -> tuple[Tensor, Tensor] | None:
        if not scores.is_cuda or scores.ndim != 2 or not 0 < count <= scores.shape[1]:
            return None
        wide = scores.float()
        whole = wide.logsumexp(-1, keepdim=True) if log_probs else 0.0
        if own := [column for column in banned if column < wide.shape[1]]:
            wide = wide.index_fill(1, torch.tensor(own, device=wide.device), -torch.inf)
        values, columns = (x[:, None] for x in wide.max(-1)) if count == 1 else wide.topk(count, -1)
        return values - whole, columns

    def dropout(self, x: Tensor, p: float) -> Tensor:
        if not x.is_cpu or p >= 1.0 or torch.compiler.is_compiling():
            return F.dropout(x, p)
        # On a CPU torch draws a number for each element, one after another: three times the time of what follows.
        level = round(p * DROPOUT_LEVELS)
        if not level:
            return x
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        mask = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - DROPOUT_LEVELS // 2
        return x * mask.to(x.dtype).mul_(DROPOUT_LEVELS / (DROPOUT_LEVELS - level))

    def updates_rows(self, table: Tensor) -> bool:
        return False

    def adam_rows(
        self, table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor, step: float,
        group: Mapping[str, Any],
    ) -> None:  # fmt: skip
        beta1, beta2 = group["betas"]
        mean = first[rows].lerp_(gradient, 1 - beta1)
        square = second[rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        first[rows], second[rows] = mean, square
        root = square.sqrt_().div_(sqrt(1 - beta2**step)).add_(group["eps"])
        table[rows] -= mean.div_(root).mul_(group["lr"] / (1 - beta1**step))


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return x (tokens, heads, width) with its first channels rotated; a pair is half the rotated width apart.

    Args:
        cosines, sines: (tokens, 1, rotated), the sines of the first half negated.
    """
    width = cosines.shape[-1]
    first = x if width == x.shape[-1] else x[..., :width]
    rotated = first * cosines + first.roll(width // 2, -1) * sines
    return rotated if width == x.shape[-1] else torch.cat([rotated, x[..., width:]], -1)
