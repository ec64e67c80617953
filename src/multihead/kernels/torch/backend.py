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
        normed = x.float()  # float32, since squares leave the range of float16
        normed = normed * torch.rsqrt(normed.pow(2).mean(-1, keepdim=True) + eps)
        if not wide:
            return weight * normed.to(weight.dtype)  # Llama rounds before the weight multiplies
        weight = weight.float()
        return ((weight + centre if centre else weight) * normed).to(x.dtype)  # Gemma and OLMo 2 round after it

    def rotary(
        self, q: Tensor, k: Tensor, angles: Callable[[], Angles], table: Callable[[], Angles]
    ) -> tuple[Tensor, Tensor]:
        cosines, sines = table()  # (tokens, 1, rotated) each
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
        wide = scores.float()  # (rows, width)
        whole = wide.logsumexp(-1, keepdim=True) if log_probs else 0.0  # (rows, 1), banned columns included
        if own := [column for column in banned if column < wide.shape[1]]:
            wide = wide.index_fill(1, torch.tensor(own, device=wide.device), -torch.inf)
        # (rows, count) each; one value needs no topk
        values, columns = (x[:, None] for x in wide.max(-1)) if count == 1 else wide.topk(count, -1)
        return values - whole, columns

    def dropout(self, x: Tensor, p: float) -> Tensor:
        if not x.is_cpu or p >= 1.0 or torch.compiler.is_compiling():
            return F.dropout(x, p)
        # On a CPU torch draws a number for each element, one after another: three times the time of what follows.
        level = round(p * DROPOUT_LEVELS)
        if not level:
            return x
        # (a quarter of the numbers,), int64: each is read as four int16 below
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        # Same shape as x, True where a number stays.
        mask = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - DROPOUT_LEVELS // 2
        return x * mask.to(x.dtype).mul_(DROPOUT_LEVELS / (DROPOUT_LEVELS - level))

    def updates_rows(self, table: Tensor) -> bool:
        return False

    def adam_rows(
        self, table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor, step: float,
        group: Mapping[str, Any],
    ) -> None:  # fmt: skip
        beta1, beta2 = group["betas"]
        mean = first[rows].lerp_(gradient, 1 - beta1)  # (rows, width); only rows with a gradient are read and written
        square = second[rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)  # (rows, width)
        first[rows], second[rows] = mean, square
        root = square.sqrt_().div_(sqrt(1 - beta2**step)).add_(group["eps"])
        table[rows] -= mean.div_(root).mul_(group["lr"] / (1 - beta1**step))


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return x (tokens, heads, width) with its first channels rotated; a pair is half the rotated width apart.

    Args:
        cosines, sines: (tokens, 1, rotated), the sines of the first half negated.
    """
    width = cosines.shape[-1]
    first = x if width == x.shape[-1] else x[..., :width]  # (tokens, heads, rotated)
    rotated = first * cosines + first.roll(width // 2, -1) * sines  # roll swaps the halves, and the table has the signs
    return rotated if width == x.shape[-1] else torch.cat([rotated, x[..., width:]], -1)
