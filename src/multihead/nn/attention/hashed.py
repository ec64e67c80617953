"""Attention by the chance that hashes of queries and keys are equal (YOSO, Zeng et al., 2021, arXiv:2111.09714)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..forward_context import ForwardContext
from .attention import Attention
from .nystrom import Filters


class CollisionSum(torch.autograd.Function):
    """Sum of values by the chance that `bits` bits of a hash agree, (1 - angle / pi)^bits.

    The gradient of the chance is taken as bits / 2 times the chance times the other vector, as the paper bounds it: the
    exact one has no limit where query and key agree.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bits: int) -> Tensor:
        """Map q, k, v (heads, length, head width), q and k of length 1, to (heads, length, head width)."""
        # (heads, queries, keys); clamped, since a rounded cosine may be above 1
        chance = (1 - torch.acos((q @ k.mT).clamp(-1.0, 1.0)) / math.pi) ** bits
        ctx.save_for_backward(chance, q, k, v)
        ctx.bits = bits
        return chance @ v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        chance, q, k, v = ctx.saved_tensors
        weights = (gradient @ v.mT) * chance * (ctx.bits / 2)  # (heads, queries, keys)
        return weights @ k, weights.mT @ q, chance.mT @ gradient, None


class CollisionAttention(Attention):
    """Attention weighted by the chance of equal hashes, scaled to length 1, plus a convolution of its values.

    Args:
        bits: of a hash. kernel: of the convolution, which each head has one filter of; None for none.
    """

    def __init__(self, width: int, heads: int, *, bits: int, kernel: int | None) -> None:
        super().__init__(width, heads)
        self.bits = bits
        self.conv = None if kernel is None else Filters(heads, kernel)

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def forward(self, x: Tensor, context: ForwardContext, memory: object) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        q, k, lengths = F.normalize(q, dim=-1), F.normalize(k, dim=-1), context.runs.lengths
        mixed = []
        for parts in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
            heads = (part.transpose(0, 1) for part in parts)  # (heads, length, head width) each
            summed = F.normalize(CollisionSum.apply(*heads, self.bits), dim=-1).transpose(0, 1)
            mixed.append(summed if self.conv is None else summed + self.conv(parts[2]))
        return self.out(torch.cat(mixed).flatten(1))
