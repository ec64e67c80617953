"""Two streams of states, of words and of their places, with one attention (LiLT, arXiv:2202.13669)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..embeddings import Embeddings
from ..forward_context import ForwardContext
from ..stack import Stack
from ..weights import Linear
from .attention import Attention


class Streams(nn.Module):
    """Apply `first` to the first `width` channels and `second` to the others, side by side."""

    def __init__(self, first: nn.Module, second: nn.Module, width: int) -> None:
        super().__init__()
        self.first, self.second, self.width = first, second, width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x[:, : self.width]), self.second(x[:, self.width :])], -1)


class LayoutAttention(Attention):
    """Attention whose scores are the sum of those of both streams.

    A head of both is one head: its queries and keys are those of the two streams side by side, scaled by each one's
    width, and so are its values.

    Args:
        width, narrow: channels of the streams.
    """

    def __init__(self, width: int, narrow: int, heads: int, *, dropout: float = 0.0) -> None:
        both = Streams(Linear(width, width), Linear(narrow, narrow), width)
        super().__init__(
            width, heads, head_width=(width + narrow) // heads, projections={"out": both}, dropout=dropout, scale=1.0
        )
        self.q, self.k, self.v = (Linear(width, width) for _ in range(3))
        self.layout_q, self.layout_k, self.layout_v = (Linear(narrow, narrow) for _ in range(3))
        self.width, self.heads = width, heads

    def forward(self, x: Tensor, context: ForwardContext, memory: object) -> Tensor:
        """Map states of both streams (tokens, width + narrow) to the same."""
        mixed = self._heads(x, context, None)  # (tokens, heads, head width)
        words, places = mixed.split([self.width // self.heads, mixed.shape[-1] - self.width // self.heads], -1)
        return self.out(torch.cat([words.flatten(1), places.flatten(1)], -1))

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        words, places = x[:, : self.width], x[:, self.width :]

        def joined(one: nn.Module, other: nn.Module, scaled: bool = False) -> Tensor:
            parts = [part.unflatten(-1, (self.heads, -1)) for part in (one(words), other(places))]
            return torch.cat([part * part.shape[-1] ** -0.5 if scaled else part for part in parts], -1)

        q = joined(self.q, self.layout_q, scaled=True)
        return q, joined(self.k, self.layout_k), joined(self.v, self.layout_v)


class StreamStack(Stack):
    """Stack of layers of both streams, whose result and shown states are the first stream's.

    Args:
        width: channels of the first stream.
    """

    def __init__(self, embed: Embeddings, layers: Sequence[nn.Module], width: int) -> None:
        super().__init__(embed, layers)
        self.width = width

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        hidden = super().forward(words, context)[:, : self.width]
        if context.capture.hidden is not None:
            context.capture.hidden[:] = [states[:, : self.width] for states in context.capture.hidden]
        return hidden
