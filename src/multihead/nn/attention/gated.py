"""Attention whose outputs are gated (Qiu et al., 2025, arXiv:2505.06708)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from ..weights import Linear
from .attention import Attention


class GatedAttention(Attention):
    """Self-attention whose head outputs are multiplied by a sigmoid of the token's state.

    The query projection gives a head's query, and then the gates of its output: (heads * 2 * head width, width).
    """

    def __init__(self, width: int, heads: int, *, head_width: int, bias: bool = False, **options: Any) -> None:
        both = {"q": Linear(width, heads * 2 * head_width, bias=bias)}
        super().__init__(width, heads, head_width=head_width, bias=bias, projections=both, **options)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        both, k, v = self._products(x)
        q, gate = both.unflatten(-1, (-1, 2, self.head_width)).unbind(-2)  # (tokens, heads, head width) each
        heads = self._attend(*self._shape(q.flatten(-2), k, v), context, memory)
        return self.out((heads * torch.sigmoid(gate)).flatten(1))
