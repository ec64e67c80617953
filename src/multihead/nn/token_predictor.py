"""Multi-token prediction (DeepSeek-AI, 2024, arXiv:2412.19437, section 2.2): layers that predict one more token.

A predictor reads the state of a token together with the embedding of a later one, and gives the state from which the
token after that is predicted. The predictor of depth k reads those of depth k - 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .cache.layer_cache import LayerCache, cache_or_none, memory_of
from .experts import parts_without_experts
from .forward_context import ForwardContext
from .positions import RotaryByLength


class TokenPredictor(nn.Module):
    """Norms of a token's embedding and of a state, a projection of both, layers, and a last norm.

    Args:
        join: from both, (2 width), to the width of a state. out: the last norm.
    """

    def __init__(
        self, word_norm: nn.Module, state_norm: nn.Module, join: nn.Module, layers: Iterable[nn.Module], out: nn.Module
    ) -> None:
        super().__init__()
        self.word_norm, self.state_norm, self.join, self.out = word_norm, state_norm, join, out
        self.layers = nn.ModuleList(layers)

    def memories(self) -> list[LayerCache]:
        """Return an empty cache for each layer."""
        return [memory_of(layer) for layer in self.layers]

    @property
    def by_length(self) -> Sequence[RotaryByLength]:
        """Rotary positions whose frequencies depend on the length of the sequence."""
        return tuple(part for part in parts_without_experts(self) if isinstance(part, RotaryByLength))

    def forward(self, words: Tensor, states: Tensor, context: ForwardContext) -> Tensor:
        """Map embeddings and states (tokens, width) to states (tokens, width)."""
        x = self.join(torch.cat([self.word_norm(words), self.state_norm(states)], -1))  # (tokens, width)
        memories = context.cache.layers if context.cache else [None] * len(self.layers)
        for layer, memory in zip(self.layers, map(cache_or_none, memories), strict=True):
            x = layer(x, context, memory)  # (tokens, width)
        if context.cache is not None:
            context.cache.advance(context.runs)
        return self.out(x)
