"""Lightning attention: linear attention whose states decay (Qin et al., 2024, arXiv:2401.04658)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .activations import activation
from .cache.layer_cache import StateLayerCache
from .forward_context import ForwardContext
from .norms import RMSNorm
from .state_space import decayed_scan
from .weights import Linear


class LightningAttention(nn.Module):
    """Linear attention with a fixed decay for each head, normed and gated before the last projection.

    Args:
        rates: (heads,), how fast a head forgets: a state loses 1 - exp(-rate) of itself with each token.
        act: of queries, keys and values. eps: of the norm over all heads.
    """

    def __init__(self, width: int, rates: list[float], head_width: int, *, act: str, eps: float) -> None:
        super().__init__()
        heads = len(rates)
        inner = heads * head_width
        self.qkv = Linear(width, 3 * inner, bias=False)  # queries, keys and values head by head
        self.gate, self.out = Linear(width, inner, bias=False), Linear(inner, width, bias=False)
        self.norm = RMSNorm(inner, eps)
        self.rates, self.heads, self.act = rates, heads, activation(act)

    def memory(self) -> StateLayerCache:
        return StateLayerCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        # (tokens, heads, head width) each, in float32, since rounding errors of a state add up over the sequence
        q, k, v = self.act(self.qkv(x)).float().unflatten(-1, (self.heads, -1)).chunk(3, -1)
        rates = context.cached((self, "rates"), lambda: -torch.tensor(self.rates, device=x.device))  # (heads,)
        y = decayed_scan(v, v.new_ones(v.shape[:2]), rates, k, q, context, memory)  # (tokens, heads, head width)
        return self.out(torch.sigmoid(self.gate(x)) * self.norm(y.flatten(1).to(x.dtype)))
