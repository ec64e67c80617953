"""Attention whose head outputs are multiplied by gates that have a projection of their own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from ..weights import Linear
from .attention import Attention


class OutputGateAttention(Attention):
    """Self-attention whose head outputs are gated by the token's state before the last projection.

    Args:
        by_head: a gate for each head (Laguna), not for each channel of one (AFMoE).
        soft: gates are softplus in float32 (Laguna), not sigmoids (AFMoE).
    """

    def __init__(self, width: int, heads: int, *, head_width: int, by_head: bool, soft: bool, **options: Any) -> None:
        super().__init__(width, heads, head_width=head_width, **options)
        self.gate = Linear(width, heads if by_head else heads * head_width, bias=False)
        self.by_head, self.soft = by_head, soft

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        heads = self._heads(x, context, memory)  # (tokens, heads, head width)
        scores = self.gate(x)  # (tokens, heads), or (tokens, heads * head width)
        gates = F.softplus(scores.float()).to(heads.dtype) if self.soft else torch.sigmoid(scores)
        gates = gates[..., None] if self.by_head else self._split(gates)
        return self.out((heads * gates).flatten(1))


class BiasedGateAttention(OutputGateAttention):
    """Self-attention whose head outputs are multiplied by sigmoids, with a bias of each head (Beam)."""

    def __init__(self, width: int, heads: int, *, head_width: int, **options: Any) -> None:
        super().__init__(width, heads, head_width=head_width, by_head=False, soft=False, **options)
        self.gate_bias = nn.Parameter(torch.empty(heads))  # (heads,)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to no bias."""
        parameter.zero_()

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        heads = self._heads(x, context, memory)  # (tokens, heads, head width)
        gates = self._split(self.gate(x)) + self.gate_bias[:, None]  # same shape
        return self.out((heads * torch.sigmoid(gates)).flatten(1))


class NormedGateAttention(OutputGateAttention):
    """Self-attention whose head outputs are normed, then gated (Muse Spark).

    Args:
        norm: of head outputs (tokens, heads, head width).
    """

    def __init__(self, width: int, heads: int, *, norm: nn.Module, **options: Any) -> None:
        super().__init__(width, heads, by_head=False, soft=False, **options)
        self.heads_norm = norm

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        return self.heads_norm(super()._heads(x, context, memory))  # (tokens, heads, head width)
