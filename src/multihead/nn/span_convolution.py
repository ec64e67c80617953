"""Convolution heads whose kernel depends on the token and its span (ConvBERT, arXiv:2008.02496)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention.attention import Attention
from .cache.layer_cache import KVLayerCache
from .forward_context import ForwardContext
from .ragged import positions_in_sequences
from .weights import Linear


class SpanConvolution(nn.Module):
    """Span-based dynamic convolution with as many heads as the attention beside it.

    Args:
        heads, head_width: of the result. kernel: tokens that a head looks at, an odd number.
    """

    def __init__(self, width: int, heads: int, head_width: int, kernel: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.kernel = heads, kernel
        # A depthwise convolution, then a linear layer over channels: far fewer weights than one full convolution.
        self.depthwise = nn.Parameter(torch.empty(width, kernel))
        self.pointwise = Linear(width, inner)
        self.kernels, self.values = Linear(inner, heads * kernel), Linear(width, inner)

    def forward(self, x: Tensor, queries: Tensor, context: ForwardContext) -> Tensor:
        """Map states (tokens, width) and queries (tokens, heads * head width) to (tokens, heads, head width)."""
        # (tokens, kernel) each
        rows, real = context.cached((SpanConvolution, self.kernel), lambda: self._neighbours(context))
        # (tokens, heads * head width), from neighbours (tokens, kernel, width)
        span = self.pointwise(torch.einsum("tkw,wk->tw", self._around(x, rows, real), self.depthwise))
        # (tokens, heads, kernel)
        weights = self.kernels(span * queries).unflatten(-1, (self.heads, self.kernel)).softmax(-1)
        # (tokens, kernel, heads, head width)
        values = self._around(self.values(x), rows, real).unflatten(-1, (self.heads, -1))
        return torch.einsum("tkhw,thk->thw", values, weights)  # (tokens, heads, head width)

    def _neighbours(self, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Return rows of each token's neighbours and a mask of those in its sequence, (tokens, kernel) each."""
        device = context.positions.device
        place = positions_in_sequences(context.runs, device)[:, None]  # (tokens, 1)
        lengths = torch.tensor(context.runs.lengths, device=device)
        length = torch.repeat_interleave(lengths, lengths)[:, None]  # (tokens, 1)
        steps = torch.arange(self.kernel, device=device) - self.kernel // 2  # (kernel,)
        rows = torch.arange(place.shape[0], device=device)[:, None] + steps  # (tokens, kernel)
        real = (place + steps >= 0) & (place + steps < length)  # (tokens, kernel)
        return torch.where(real, rows, 0), real

    def _around(self, x: Tensor, rows: Tensor, real: Tensor) -> Tensor:
        """Return the neighbours' states (tokens, kernel, width), zero outside of the sequence."""
        return x[rows] * real[..., None]


class SpanAttention(Attention):
    """Self-attention with convolution heads beside its own heads.

    Args:
        kernel: of the convolution.
    """

    def __init__(
        self, width: int, heads: int, kernel: int, *, head_width: int, dropout: float = 0.0, causal: bool = False
    ) -> None:
        out = {"out": Linear(2 * heads * head_width, width)}
        super().__init__(width, heads, head_width=head_width, projections=out, dropout=dropout, causal=causal)
        self.span = SpanConvolution(width, heads, head_width, kernel)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        attended = self._heads(x, context, memory)  # (tokens, heads, head width)
        # (tokens, 2 heads, head width) before the projection
        return self.out(torch.cat([attended, self.span(x, self.q(x), context)], 1).flatten(1))
