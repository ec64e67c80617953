"""Short convolutions of what sublayers give, each added to what it reads (Inkling, Thinking Machines Lab, 2026)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cache.layer_cache import HybridLayerCache, LayerCache, cache_or_none, memory_of
from .forward_context import ForwardContext
from .layer import Layer
from .state_space import ConvolutionCache, ShortConvolution, spaced
from .weights import Float32Parameters, Linear


class ResidualConvolution(Float32Parameters, ShortConvolution):
    """Short convolution that is added to its input: scale (x + convolution(x)), computed in float32.

    Args:
        scale: of the sum (Inkling 2).
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, channels: int, kernel: int, scale: float = 1.0) -> None:
        super().__init__(channels, kernel, bias=False)
        self.scale = scale

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None) -> Tensor:
        """Map (tokens, channels) to (tokens, channels)."""
        wide = x.to(self.weight.dtype)
        both = super().forward(wide, context, memory) + wide
        return (both if self.scale == 1.0 else both * self.scale).to(x.dtype)


class DynamicConvolution(nn.Module):
    """Short causal convolution whose weights a token's state changes, added to its input (Inkling 2), in float32.

    Args:
        channels: in `heads` groups, each of which has its changes. width: of the states that decide them.
        scale: of the sum.
    """

    def __init__(self, channels: int, width: int, heads: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.static = nn.Parameter(torch.empty(kernel, channels))  # row i is of the token i places back
        self.dynamic = Linear(width, heads * kernel, bias=False)
        self.heads, self.kernel, self.scale = heads, kernel, scale

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to the input alone."""
        parameter.zero_()

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None, states: Tensor) -> Tensor:
        """Map (tokens, channels) to (tokens, channels); states: (tokens, width)."""
        wide, past = x.float(), self.kernel - 1
        before = None if memory is None else memory.inputs.read(context)
        if before is None:
            before = wide.new_zeros(len(context.runs), past, x.shape[1])  # (sequences, past, channels)
        # spread: (rows, channels), the last inputs of earlier passes before each sequence; rows: (tokens,)
        spread, rows, last = spaced(wide, before, context)
        if memory is not None:
            memory.inputs.write(context, spread[last])
        changes = self.dynamic(states).float().unflatten(-1, (self.heads, self.kernel))  # (tokens, heads, kernel)
        out = wide
        for back, static in enumerate(self.static.float()):  # static: (channels,)
            weights = (
                static.unflatten(-1, (self.heads, -1)) + changes[..., back, None]
            )  # (tokens, heads, channels each)
            out = out + spread[rows - back] * weights.flatten(1)
        return (out * self.scale).to(x.dtype)


class ConvolvedMixer(nn.Module):
    """A mixer, and a convolution of its result."""

    def __init__(self, step: nn.Module, convolution: nn.Module) -> None:
        super().__init__()
        self.step, self.convolution = step, convolution

    def memory(self) -> HybridLayerCache:
        return HybridLayerCache(memory_of(self.step), ConvolutionCache())

    def forward(self, x: Tensor, context: ForwardContext, memory: HybridLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        own = (None, None) if memory is None else (cache_or_none(memory.first), memory.second)
        return self.convolution(self.step(x, context, own[0]), context, own[1])


class ConvolvedFeedForward(nn.Module):
    """A feed-forward, and a convolution of its result."""

    def __init__(self, step: nn.Module, convolution: nn.Module) -> None:
        super().__init__()
        self.step, self.convolution = step, convolution

    def memory(self) -> ConvolutionCache:
        return ConvolutionCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.convolution(self.step(x), context, memory)


class TwoMixerLayer(Layer):
    """Layer whose feed-forward sees earlier tokens, too, so that both of its parts have a cache."""

    def memory(self) -> LayerCache:
        return HybridLayerCache(memory_of(self.attention.step), memory_of(self.ffn.step))

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        own = (None, None)
        if isinstance(memory, HybridLayerCache):
            own = cache_or_none(memory.first), cache_or_none(memory.second)
        return self.ffn(self.attention(x, context, own[0]), context, own[1])
