"""Attention residuals: a sublayer reads a mix of the states after blocks of layers, not their sum (Inkling 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .cache.layer_cache import HybridLayerCache, cache_or_none, memory_of
from .embeddings import Embeddings
from .forward_context import ForwardContext
from .residual_convolution import ConvolvedFeedForward, ConvolvedMixer
from .stack import Stack
from .weights import Float32Parameters


class StateMix(Float32Parameters):
    """Mixes of the normed states of a token by learned queries, in float32: softmax(query . states) states.

    Args:
        count: of the queries.
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, width: int, count: int = 1, eps: float = 1e-6) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(width) if count == 1 else torch.empty(count, width))
        self.eps = eps

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to the mean of the states."""
        parameter.zero_()

    def forward(self, states: Tensor, last: Tensor) -> Tensor:
        """Map states (tokens, states, width) and one more (tokens, width) to mixes (tokens, queries, width)."""
        wide = torch.cat([states.float(), last.float()[:, None]], 1)  # (tokens, states + 1, width)
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        query = self.query.float().view(-1, wide.shape[-1])  # (queries, width)
        scores = torch.einsum("tsw,qw->tqs", normed, query) * wide.shape[-1] ** -0.5
        return scores.softmax(-1) @ normed


class MixedStateLayer(nn.Module):
    """Layer whose attention and feed-forward read mixes of a token's states: those after earlier blocks, and the sum.

    Args:
        read: mixes of what the attention reads, one for each norm; None in the first layer.
        norms: of what the attention reads; one, or three for queries, keys and values.
        begins: whether the sum so far becomes the state of a block, and a new sum begins.
    """

    def __init__(
        self,
        attention: ConvolvedMixer,
        ffn: ConvolvedFeedForward,
        *,
        read: StateMix | None,
        norms: Sequence[nn.Module],
        ffn_read: StateMix,
        ffn_norm: nn.Module,
        begins: bool,
    ) -> None:
        super().__init__()
        self.attention, self.ffn, self.read, self.norms = attention, ffn, read, nn.ModuleList(norms)
        self.ffn_read, self.ffn_norm, self.begins = ffn_read, ffn_norm, begins

    def memory(self) -> HybridLayerCache:
        return HybridLayerCache(memory_of(self.attention), memory_of(self.ffn))

    def forward(self, x: Tensor, context: ForwardContext, memory: HybridLayerCache | None) -> Tensor:
        """Map states (tokens, states, width), the sum last, to the same, or to one state more."""
        own = (None, None) if memory is None else (cache_or_none(memory.first), cache_or_none(memory.second))
        states, last = x[:, :-1], x[:, -1]
        # (tokens, queries, width)
        read = last[:, None].expand(-1, len(self.norms), -1) if self.read is None else self.read(states, last)
        parts = [norm(part).to(x.dtype) for norm, part in zip(self.norms, read.unbind(1), strict=True)]
        new = self.attention(parts[0] if len(parts) == 1 else torch.stack(parts, 1), context, own[0]).float()
        states, total = (x, new) if self.begins else (states, last.float() + new)
        given = self.ffn_norm(self.ffn_read(states, total)[:, 0]).to(x.dtype)  # (tokens, width)
        total = (total + self.ffn(given, context, own[1])).to(x.dtype)
        return torch.cat([states, total[:, None]], 1)


class LastMix(nn.Module):
    """Norm of a mix of a token's states, in the precision of these."""

    def __init__(self, mix: StateMix, norm: nn.Module) -> None:
        super().__init__()
        self.mix, self.norm = mix, norm

    def forward(self, x: Tensor) -> Tensor:
        """Map states (tokens, states, width) to (tokens, width)."""
        return self.norm(self.mix(x[:, :-1], x[:, -1])[:, 0]).to(x.dtype)


class FirstState(Embeddings):
    """Token embeddings as the first of a token's states."""

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Return states (tokens, 1, width)."""
        return super().forward(words, context)[:, None]


class MixedStateStack(Stack):
    """Stack of `MixedStateLayer`s; outputs show the sum."""

    def shown(self, x: Tensor) -> Tensor:
        return x[:, -1]
