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


class WordAndStateLayer(nn.Module):
    """Pre-norm layer whose attention reads a token's embedding beside a state (Li et al., 2025, arXiv:2503.01840).

    Args:
        attention: from both, (2 width), to the width of a state. ffn: a residual block.
        adds_normed: what attention gives is added to the normalized state.
    """

    def __init__(
        self,
        word_norm: nn.Module,
        state_norm: nn.Module,
        attention: nn.Module,
        ffn: nn.Module,
        adds_normed: bool = False,
    ) -> None:
        super().__init__()
        self.word_norm, self.state_norm, self.attention, self.ffn = word_norm, state_norm, attention, ffn
        self.adds_normed = adds_normed

    def memory(self) -> LayerCache:
        return memory_of(self.attention)

    def forward(self, words: Tensor, states: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map embeddings and states (tokens, width) to states (tokens, width)."""
        normed = self.state_norm(states)  # (tokens, width)
        new = self.attention(torch.cat([self.word_norm(words), normed], -1), context, memory)  # (tokens, width)
        return self.ffn((normed if self.adds_normed else states) + new)


class FusedStatePredictor(nn.Module):
    """Predicts tokens of a smaller vocabulary from states of several layers of a model.

    Args:
        fuse: from those of all these layers, side by side, to the width of a state. layers: after the first.
        norm, table: of the scores alone; the next token is drafted from the states before them.
        targets: (draft vocabulary,), the token that each score stands for; None where the vocabulary is the model's.
    """

    def __init__(
        self,
        fuse: nn.Module,
        first: WordAndStateLayer,
        layers: Iterable[nn.Module],
        norm: nn.Module,
        table: nn.Module,
        targets: Tensor | None,
    ) -> None:
        super().__init__()
        self.fuse, self.first, self.norm, self.table = fuse, first, norm, table
        self.layers = nn.ModuleList(layers)
        self.register_buffer("targets", targets, persistent=False)

    def memories(self) -> list[LayerCache]:
        """Return an empty cache for each layer."""
        return [memory_of(layer) for layer in (self.first, *self.layers)]

    @property
    def by_length(self) -> Sequence[RotaryByLength]:
        """Rotary positions whose frequencies depend on the length of the sequence."""
        return tuple(dict.fromkeys(part for part in self.modules() if isinstance(part, RotaryByLength)))

    def forward(self, words: Tensor, states: Tensor, context: ForwardContext) -> Tensor:
        """Map embeddings and states (tokens, width) to states (tokens, width)."""
        memories = list(map(cache_or_none, context.cache.layers if context.cache else [None] * (len(self.layers) + 1)))
        x = self.first(words, states, context, memories[0])  # (tokens, width)
        for layer, memory in zip(self.layers, memories[1:], strict=True):
            x = layer(x, context, memory)  # (tokens, width)
        if context.cache is not None:
            context.cache.advance(context.runs)
        return x

    def score(self, states: Tensor, vocabulary: int) -> Tensor:
        """Return logits (rows, vocabulary) of states (rows, width), minus infinity for tokens that are not drafted."""
        logits = self.table(self.norm(states))  # (rows, draft vocabulary)
        if self.targets is None:
            return logits
        return logits.new_full((len(logits), vocabulary), -torch.inf).index_copy(1, self.targets, logits)
