"""Short convolutions of what sublayers give, each added to what it reads (Inkling, Thinking Machines Lab, 2026)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cache.layer_cache import HybridLayerCache, LayerCache, cache_or_none, memory_of
from .forward_context import ForwardContext
from .layer import Layer
from .state_space import ConvolutionCache, ShortConvolution
from .weights import Float32Parameters


class ResidualConvolution(Float32Parameters, ShortConvolution):
    """Short convolution that is added to its input: x + convolution(x), computed in float32."""

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, kernel, bias=False)

    def forward(self, x: Tensor, context: ForwardContext, memory: ConvolutionCache | None) -> Tensor:
        """Map (tokens, channels) to (tokens, channels)."""
        wide = x.to(self.weight.dtype)
        return (super().forward(wide, context, memory) + wide).to(x.dtype)


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
