"""Hyper-connections with gated mixing: layers read a mix of several residual streams (Qwen4-Exp, 2026).

Hyper-connections: Zhu et al., 2024, arXiv:2409.19606.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import HybridLayerCache, LayerCache, cache_or_none, memory_of
from .forward_context import ForwardContext
from .ngram_embeddings import NGramFeatures
from .norms import GroupedRMSNorm
from .weights import Linear


class StreamMix(nn.Module):
    """Mean of the normed streams, each channel gated by all of them; it stands in the place of a norm.

    Args:
        rank: of the gates' matrix.
    """

    def __init__(self, width: int, streams: int, rank: int, eps: float) -> None:
        super().__init__()
        self.norm = GroupedRMSNorm(streams * width, streams, eps)
        self.down, self.up = Linear(streams * width, rank, bias=False), Linear(rank, streams * width, bias=False)
        self.streams = streams

    def forward(self, x: Tensor) -> Tensor:
        """Map streams (tokens, streams * width) to (tokens, width)."""
        return self.mix(self.norm(x))

    def mix(self, normed: Tensor) -> Tensor:
        """Return the mean (tokens, width) of normed streams (tokens, streams * width)."""
        gates = torch.sigmoid(self.up(F.silu(self.down(normed) / self.streams)))  # (tokens, streams * width)
        return (gates * normed).unflatten(-1, (self.streams, -1)).mean(-2)


class StreamResidual(nn.Module):
    """Residual block of streams: a step reads their mix, and each stream takes a share of its result.

    Args:
        mix: of the streams, whose normed states also decide the shares.
    """

    def __init__(self, step: nn.Module, mix: StreamMix, width: int) -> None:
        super().__init__()
        self.step, self.mix = step, mix
        self.share = Linear(mix.streams * width, mix.streams, bias=False)

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map streams (tokens, streams * width) to the same; `args` go to the step."""
        normed = self.mix.norm(x)
        shares = 2 * torch.sigmoid(self.share(normed) / self.mix.streams)  # (tokens, streams)
        new = self.step(self.mix.mix(normed), *args)  # (tokens, width)
        return x + (new[:, None] * shares[..., None]).flatten(1)


class StreamLayer(nn.Module):
    """Layer on streams: n-gram features, a mixer and a feed-forward.

    Args:
        ngrams: None without such features.
    """

    def __init__(self, attention: StreamResidual, ffn: StreamResidual, ngrams: NGramFeatures | None = None) -> None:
        super().__init__()
        self.attention, self.ffn, self.ngrams = attention, ffn, ngrams

    def memory(self) -> LayerCache:
        own = memory_of(self.attention.step)
        return own if self.ngrams is None else HybridLayerCache(own, self.ngrams.memory())

    def forward(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        """Map streams (tokens, streams * width) to the same."""
        if self.ngrams is not None:
            held = None if memory is None else cache_or_none(memory.second)
            x = x + self.ngrams(x, context, held)
            memory = None if memory is None else cache_or_none(memory.first)
        return self.ffn(self.attention(x, context, memory))
