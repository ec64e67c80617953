"""Attention that leaves a token's own value out of what it gives (NeoMME, H Company, 2026)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InvalidInput
from ..cache.layer_cache import LayerCache
from ..embeddings import Embeddings
from ..forward_context import ForwardContext
from ..layer import Layer, Residual
from ..weights import Linear
from .output_gate import OutputGateAttention


class ValueEmbeddings(Embeddings):
    """Token embeddings that each layer reads again, and vectors of tokens that are added to values.

    Args:
        values: (vocabulary, key heads * head width).
    """

    looks_up_tokens: ClassVar[bool] = True  # both tables belong to one vocabulary

    def __init__(self, token: nn.Embedding, values: nn.Embedding, **options: Any) -> None:
        super().__init__(token, **options)
        self.values = values

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, embedding width) to (tokens, width)."""
        if context.ids is None:
            raise InvalidInput("This model adds vectors of tokens to values: give input_ids, not inputs_embeds.")
        x = super().forward(words, context)
        context.share(ValueEmbeddings, (x, self.values(context.ids)))
        return x


class ExclusiveAttention(OutputGateAttention):
    """Gated self-attention, from whose head outputs a share of their part along the token's own value is taken.

    Args:
        embedded: vectors of `ValueEmbeddings` are added to the values.
    """

    def __init__(self, width: int, heads: int, *, embedded: bool, **options: Any) -> None:
        super().__init__(width, heads, by_head=False, soft=False, **options)
        self.embedded, self.share = embedded, nn.Parameter(torch.empty(heads))  # (heads,)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to plain attention."""
        parameter.zero_()

    def _heads(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        q, k, v = self._project(x)
        v = v + self._split(context.shared(ValueEmbeddings)[1]) if self.embedded else v
        heads = self._attend(q, k, v, context, memory)  # (tokens, heads, head width)
        unit = F.normalize(v.float(), dim=-1).to(heads.dtype).repeat_interleave(heads.shape[1] // v.shape[1], 1)
        along = (heads * unit).sum(-1, keepdim=True) * torch.tanh(self.share).to(heads.dtype)[:, None]
        return heads - along * unit


class MixedResidual(Residual):
    """Residual block whose step reads a mixture of states and embeddings: x + scale * step(before(a * x + b * x0))."""

    def __init__(self, step: nn.Module, **options: Any) -> None:
        super().__init__(step, **options)
        self.shares = nn.Parameter(torch.empty(2))  # of the states, and of the embeddings

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to the states alone."""
        parameter.copy_(torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width); the first of `args` is the context of the pass."""
        mixed = self.shares[0] * x + self.shares[1] * args[0].shared(ValueEmbeddings)[0]
        return x + self.step(self.before(mixed), *args) * self.scale

    @property
    def supports_selected_tokens(self) -> bool:
        return False


class ExclusiveLayer(Layer):
    """Layer that all tokens pass."""

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.ffn(self.attention(x, context, memory))


class Narrowing(nn.Module):
    """The transpose of a linear layer, whose weight it shares."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.linear.weight  # (tokens, out) to (tokens, in)
