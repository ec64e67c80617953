"""Gated short convolution: a mixer that sees the last few tokens alone (LFM2, Liquid AI, 2025, arXiv:2511.23404)."""

from __future__ import annotations

from torch import Tensor, nn

from ..kernels.ops import backend
from .derived import derived
from .forward_context import ForwardContext
from .state_space import ConvolutionCache, ShortConvolution, steps_alone
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
        whole = self.into(x)  # (tokens, 3 * width)
        stepped = None if memory is None or context.runs.stride != 1 else self._step(whole, context, memory)
        if stepped is not None:
            return self.out(stepped)
        before, after, x = whole.chunk(3, -1)  # (tokens, width) each
        return self.out(after * self.convolution(before * x, context, memory))

    def _step(self, whole: Tensor, context: ForwardContext, memory: ConvolutionCache) -> Tensor | None:
        """Return the gated outputs of a decode step, (tokens, width), by one kernel; None where it does not fit."""
        convolution = self.convolution
        places = memory.inputs.in_place(context) if steps_alone(convolution) else None
        if places is None:
            return None
        weights = derived(convolution, (convolution.weight, convolution.bias), convolution.step_weights)
        return backend(whole).convolution_step(whole, weights, *places)
