"""Gated short convolution: a mixer that sees the last few tokens alone (LFM2, Liquid AI, 2025, arXiv:2511.23404)."""

from __future__ import annotations

from torch import Tensor, nn

from .forward_context import ForwardContext
from .state_space import ConvolutionCache, ShortConvolution
from .weights import Linear


class GatedConvolution(nn.Module):
    """Short convolution between two gates: out(b * convolution(a * x)), where a, b and x are projected.

    Args:
        kernel: tokens that are seen, its own included. bias: of the convolution and of both projections.
    """

    def __init__(self, width: int, kernel: int, *, bias: bool = False) -> None:
        super().__init__()
        self.into, self.out = Linear(width, 3 * width, bias=bias), Linear(width, width, bias=bias)
        self.convolution = ShortConvolution(width, kernel, bias=bias)

    def memory(self) -> ConvolutionCache:
        return ConvolutionCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        before, after, x = self.into(x).chunk(3, -1)  # (tokens, width) each
        return self.out(after * self.convolution(before * x, context, memory))
