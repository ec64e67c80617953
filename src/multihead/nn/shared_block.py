"""Attention blocks that several layers of state spaces share (Zamba, Glorioso et al., 2024, arXiv:2405.16712).

Zamba 2 (arXiv:2411.15242) adds low-rank matrices to the shared ones, for each layer its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .attention.attention import Attention
from .cache.layer_cache import HybridLayerCache, cache_or_none, memory_of
from .embeddings import Embeddings
from .feedforward import GatedFeedForward
from .forward_context import ForwardContext
from .weights import Linear


class KeptEmbeddings(Embeddings):
    """Token embeddings that layers read again."""

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        x = super().forward(words, context)
        context.share(KeptEmbeddings, x, by_token=True)
        return x


class Adapter(nn.Module):
    """Low-rank matrices, added to several shared ones that read the same states.

    Args:
        outs: name of each and width of what is added to it.
    """

    def __init__(self, width: int, rank: int, outs: Mapping[str, int]) -> None:
        super().__init__()
        self.down = Linear(width, rank, bias=False)
        self.out = nn.ModuleDict({name: Linear(rank, out, bias=False) for name, out in outs.items()})


class Adapted(nn.Module):
    """A shared linear layer and what one layer adds to it: base(x) + up(down(x)).

    Args:
        name: of the matrix among those that the adapter adds to.
    """

    def __init__(self, base: nn.Module, adapter: Adapter, name: str) -> None:
        super().__init__()
        self.base, self.down, self.up = base, adapter.down, adapter.out[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))  # (tokens, width)


class SharedBlock(nn.Module):
    """Weights of a block that several layers share.

    Args:
        before, between: norms of the attention's and of the feed-forward's input.
        adapters: by name of the projection and by number of the layer among those with a block. They are kept here
            because checkpoints store them beside the shared weights.
    """

    def __init__(self, attention: Attention, ffn: GatedFeedForward, before: nn.Module, between: nn.Module) -> None:
        super().__init__()
        self.attention, self.ffn, self.before, self.between = attention, ffn, before, between
        self.adapters = nn.ModuleDict()

    def add(self, name: str, number: int, adapter: Adapter) -> None:
        """Keep a layer's adapter of a projection."""
        if name not in self.adapters:
            self.adapters[name] = nn.ModuleDict()
        self.adapters[name][str(number)] = adapter  # type: ignore[operator]


class SharedBlockLayer(nn.Module):
    """State-space layer whose mixer also reads what a shared block makes of its input and of the embeddings.

    Args:
        attention, ffn: the block's, with this layer's adapters where it has some. joint: a projection of the result.
        before: norm of the mixer's input.
    """

    def __init__(
        self,
        block: SharedBlock,
        attention: Attention,
        ffn: GatedFeedForward,
        joint: nn.Module,
        before: nn.Module,
        mixer: nn.Module,
    ) -> None:
        super().__init__()
        self.block, self.attention, self.ffn = block, attention, ffn
        self.joint, self.before, self.mixer = joint, before, mixer

    def memory(self) -> HybridLayerCache:
        return HybridLayerCache(memory_of(self.attention), memory_of(self.mixer))

    def forward(self, x: Tensor, context: ForwardContext, memory: HybridLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        held = (None, None) if memory is None else (cache_or_none(memory.first), cache_or_none(memory.second))
        both = self.block.before(torch.cat([x, context.shared(KeptEmbeddings)], -1))  # (tokens, 2 * width)
        mixed = self.attention(both, context, held[0])  # (tokens, width)
        mixed = self.joint(self.ffn(self.block.between(mixed)))
        return x + self.mixer(self.before(x + mixed), context, held[1])
