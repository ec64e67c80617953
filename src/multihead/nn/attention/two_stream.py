"""Two-stream stack that reads tokens and predicts chosen positions at once (XLNet, Yang et al., arXiv:1906.08237)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..cache.layer_cache import cache_or_none
from ..embeddings import Embeddings
from ..forward_context import ForwardContext
from ..layer import Layer
from ..ragged import Layout
from ..stack import Stack
from ..weights import Dropout
from .relative import Memory


class TwoStreamLayer(Layer):
    """Post-norm layer for the content stream alone, or for both streams."""

    def both(self, x: Tensor, g: Tensor, context: ForwardContext, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Return the content stream (tokens, width) and the query stream (targets of all sequences, width)."""
        step = self.attention
        # (tokens, width), (targets of all sequences, width)
        words, targets = step.step.both(x, g, context, memory)  # type: ignore[operator]
        x, g = step.after(x + step.dropout(words)), step.after(g + step.dropout(targets))
        return self.ffn(x), self.ffn(g)


class TwoStream(Stack):
    """Content stream of all tokens and, with `target_mapping`, the query stream of the predicted positions.

    Args:
        remembers: whether a pass returns its memory by default.
    """

    def __init__(
        self, embed: Embeddings, layers: Sequence[TwoStreamLayer], width: int, dropout: float, remembers: bool
    ) -> None:
        super().__init__(embed, layers, Dropout(dropout))
        self.mask, self._remembers = nn.Parameter(torch.empty(width)), remembers  # mask: (width,)

    @property
    def remembers(self) -> bool:
        return self._remembers

    @property
    def typed(self) -> bool:
        return True

    def filled(self, layout: Layout, context: ForwardContext) -> Layout:
        targets = context.extra_inputs.get("target_mapping")
        # States are a grid (sequences, targets) without padding.
        return layout if not targets else Layout.of(None, (len(targets), targets[0].shape[0]))

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Return states of the tokens (tokens, width), or of the targets (sequences * targets, width) where given."""
        targets: list[Any] | None = context.extra_inputs.get("target_mapping")
        if not targets:
            return super().forward(words, context)
        x = self.embed(words, context)  # (tokens, width)
        # (targets of all sequences, width): each target begins with one learned vector, which does not know its word
        g = self.embed.dropout(self.mask.expand(sum(len(t) for t in targets), -1).to(x.dtype))
        for number, layer in enumerate(self.layers):
            if context.capture.hidden is not None:
                context.capture.hidden.append(x)
            memory = cache_or_none(context.cache.layers[number]) if context.cache else None
            x, g = layer.both(x, g, context, memory)  # type: ignore[operator]
        if context.cache is not None:
            context.cache.advance(context.runs)
        if context.capture.hidden is not None:
            context.capture.hidden.append(self.norm(x))
        return self.norm(g)  # (targets of all sequences, width)
