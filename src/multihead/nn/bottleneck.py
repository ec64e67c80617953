"""Layers that work on narrower states than the residual stream (MobileBERT, Sun et al., 2020, arXiv:2004.02984)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .attention.attention import Attention
from .cache.layer_cache import KVLayerCache
from .forward_context import ForwardContext
from .weights import Dropout, Linear


class Bottleneck(nn.Module):
    """Bottleneck projection: norm(linear(x)), to fewer channels."""

    def __init__(self, linear: Linear, norm: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm = linear, norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


class NarrowAttention(Attention):
    """Attention with queries and keys from narrow states, and values from wide states.

    Args:
        width: of the narrow states. wide: of those that come in.
    """

    def __init__(self, width: int, heads: int, *, wide: int, narrow: Bottleneck, **options: Any) -> None:
        super().__init__(width, heads, projections={"v": Linear(wide, width)}, **options)
        self.narrow = narrow

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shared = self.narrow(x)
        return self._split(self.q(shared)), self._split(self.k(shared)), self._split(self.v(x))


class BottleneckLayer(nn.Module):
    """Attention and several feed-forwards on narrow states, then one projection back to the wide states.

    Args:
        narrow: makes the narrow states that attention is added to. norm: of that sum.
        ffns: residual steps. widen: back to the states' width; wide_norm: of the last sum.
    """

    def __init__(
        self,
        narrow: Bottleneck,
        attention: Attention,
        norm: nn.Module,
        ffns: Sequence[nn.Module],
        widen: Linear,
        wide_norm: nn.Module,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.narrow, self.attention, self.norm, self.ffns = narrow, attention, norm, nn.ModuleList(ffns)
        self.widen, self.wide_norm, self.dropout = widen, wide_norm, Dropout(dropout)

    def memory(self) -> KVLayerCache:
        return self.attention.memory()

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        inner = self.norm(self.attention(x, context, memory) + self.narrow(x))
        for ffn in self.ffns:
            inner = ffn(inner)
        return self.wide_norm(self.dropout(self.widen(inner)) + x)
