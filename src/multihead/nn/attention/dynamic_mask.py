"""Attention whose mask is computed from the values (Shi et al., 2025, arXiv:2508.02124)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..forward_context import ForwardContext
from ..weights import Linear
from .attention import Attention


class DynamicMaskAttention(Attention):
    """Self-attention that adds a weight of each key's value to its scores, and hides the keys of the lowest weights.

    Args:
        keep: keys that a query sees at most, for each key head.
    """

    def __init__(self, width: int, heads: int, *, key_heads: int, keep: int, bias: bool, **options: Any) -> None:
        super().__init__(width, heads, key_heads=key_heads, bias=bias, **options)
        self.strength, self.keep = nn.Parameter(torch.empty(key_heads)), keep  # (key heads,)
        self.rate = Linear(key_heads * self.head_width, key_heads, bias=bias)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize the strengths to zero, with which all weights are 1."""
        parameter.zero_()

    @property
    def pages(self) -> bool:
        return False  # the weights read the values of all keys

    def _mix(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention_mask: AttentionMask,
        bias: Bias | None,
        context: ForwardContext,
        record: list[list[Tensor]] | None,
    ) -> Tensor:
        groups = q.shape[1] // v.shape[1]

        def of(text: int) -> Tensor:
            queries, keys = attention_mask.queries.lengths[text], attention_mask.keys.lengths[text]
            values = v.narrow(0, attention_mask.keys.begins[text], keys)  # (keys, key heads, head width)
            weights = torch.exp(self.strength * F.softplus(self.rate(values.flatten(1)))).T  # (key heads, keys)
            weights = weights[:, None].expand(-1, queries, -1)  # (key heads, queries, keys)
            if keys > self.keep:
                lowest, seen = torch.finfo(weights.dtype).min, attention_mask.dense(text, v.device)
                weights = weights if seen is None else weights.masked_fill(~seen, lowest)
                # Repeated words have nearly equal values in a first layer, so that rounding decides between them.
                kept = weights.topk(self.keep, -1, sorted=False).indices  # (key heads, queries, keep)
                hidden = torch.ones_like(weights, dtype=torch.bool).scatter(-1, kept, False)
                weights = weights.masked_fill(hidden, lowest)
            return weights.repeat_interleave(groups, 0)  # (heads, queries, keys)

        return super()._mix(q, k, v, attention_mask, of, context, record)
