"""Differential attention (Ye et al., 2024, arXiv:2410.05258): the difference of two attentions to the same values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UnsupportedConfig
from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from ..norms import PlainRMSNorm
from .attention import Attention


class DifferentialAttention(Attention):
    """Attention whose first half of heads has what the second half gives subtracted, times a learned number.

    Values of two key heads, half of all key heads apart, are those of both. A norm follows for each pair of heads.

    Args:
        start: of the learned number, for parameters of zero. eps: of the norm.
    """

    def __init__(self, width: int, heads: int, *, start: float, eps: float, **options: Any) -> None:
        super().__init__(width, heads, **options)
        key_heads = options.get("key_heads") or heads
        if heads % 2 or key_heads % 2:
            raise UnsupportedConfig(f"Heads are subtracted in pairs: {heads} heads with {key_heads} key heads are not.")
        self.start, self.norm = start, PlainRMSNorm(2 * self.head_width, eps)
        # (head width,) each: the number is exp(q1 . k1) - exp(q2 . k2) + start
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(torch.empty(self.head_width)) for _ in range(4)
        )

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.normal_(0.0, 0.1)

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        q, k, v = self._project(x)  # q: (tokens, heads, head width); k, v: (tokens, key heads, head width)
        q, k = self.positions.rotate(q, k, context)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.extend(k, v, context)  # (rows, key heads, head width) each
        attention_mask = context.attention_mask(runs, causal=self.causal, window=self.window)
        pairs = torch.cat(v.chunk(2, 1), -1)  # (rows, key heads / 2, 2 head width)
        values = torch.cat([pairs, pairs], 1)  # (rows, key heads, 2 head width)
        # (tokens, heads, 2 head width)
        mixed = self._mix(q, k, values, attention_mask, None, context, context.capture.attentions)
        first, second = mixed.chunk(2, 1)  # (tokens, heads / 2, 2 head width) each
        return self.norm(first - self._share(x.dtype) * second) * (1 - self.start)

    def _share(self, dtype: torch.dtype) -> Tensor:
        """Return the number that the second half is multiplied by, ()."""
        pairs = (self.lambda_q1, self.lambda_k1), (self.lambda_q2, self.lambda_k2)
        one, other = ((q * k).sum(dtype=torch.float32).exp().to(dtype) for q, k in pairs)
        return one - other + self.start


def start_of(layer: int) -> float:
    """Return the paper's start of a layer's number, counted from 0."""
    return 0.8 - 0.6 * math.exp(-0.3 * layer)
