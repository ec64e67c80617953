"""Compressed convolutional attention: queries and keys of a few tokens are mixed (Zyphra, 2025, arXiv:2510.04476)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cache.layer_cache import KVLayerCache, StateLayerCache
from ..forward_context import ForwardContext
from ..state_space import spaced
from ..weights import Linear
from .attention import Attention


class ConvolvedHeadsCache:
    """Keys and values of a layer, the last inputs of its convolutions, and the last token's hidden state."""

    def __init__(self, window: int | None) -> None:
        self.pairs, self.inputs, self.states = KVLayerCache(window), StateLayerCache(), StateLayerCache()

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache]:
        yield from self.pairs.leaves()
        yield self.inputs
        yield self.states


class HeadConvolution(nn.Module):
    """Two causal convolutions: of each channel, then of the channels of each head.

    Only the first one's input is padded with zeros before a text, so that the second one reads the first one's bias
    there.

    Args:
        kernels: tokens that the first and the second see, their own included.
    """

    def __init__(self, heads: int, head_width: int, kernels: tuple[int, int]) -> None:
        super().__init__()
        channels, (first, second) = heads * head_width, kernels
        self.heads, self.past = heads, first + second - 2
        self.each, self.each_bias = nn.Parameter(torch.empty(channels, first)), nn.Parameter(torch.empty(channels))
        self.mix = nn.Parameter(torch.empty(channels, head_width, second))
        self.mix_bias = nn.Parameter(torch.empty(channels))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.zero_() if name.endswith("bias") else parameter.normal_(0.0, std)

    def forward(self, x: Tensor, context: ForwardContext, memory: StateLayerCache | None) -> Tensor:
        """Map (tokens, channels) to (tokens, channels)."""
        if not len(x):  # torch convolves no empty row; what a cache holds stays
            return x
        before = None if memory is None else memory.read(context)
        if before is None:
            before = x.new_zeros(len(context.runs), self.past, x.shape[1])  # (sequences, past, channels)
        # spread: (rows, channels), with what was last before each sequence
        spread, rows, last = spaced(x, before, context)
        if memory is not None:
            memory.write(context, spread[last])
        mixed = F.conv1d(spread.T[None], self.each[:, None], self.each_bias, groups=x.shape[1])
        mixed = F.conv1d(mixed, self.mix, self.mix_bias, groups=self.heads)[0].T  # (rows - past, channels)
        return mixed[rows - self.past]


class HeadLengthNorm(nn.Module):
    """Norm of each head to the length sqrt(head width), times a learned scale of the head or none.

    Args:
        heads: with a scale; None for no scales.
    """

    def __init__(self, heads: int | None = None) -> None:
        super().__init__()
        self.scale = None if heads is None else nn.Parameter(torch.empty(heads))  # (heads,)

    def forward(self, x: Tensor) -> Tensor:
        """Map (tokens, heads, head width) to the same shape."""
        lengths = x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).eps)  # (tokens, heads, 1)
        x = x * (x.shape[-1] ** 0.5 / lengths)
        return x if self.scale is None else x * self.scale[:, None]


class CompressedConvolutionAttention(Attention):
    """Attention whose queries and keys are convolved; half of the values come from the token before.

    The mean of a query and its key is added to both after the convolutions.

    Args:
        kernels: tokens that the two convolutions see. bias: of the projections.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        key_heads: int,
        head_width: int,
        kernels: tuple[int, int],
        bias: bool,
        **options: Any,
    ) -> None:
        half = key_heads * head_width // 2
        super().__init__(
            width,
            heads,
            key_heads=key_heads,
            head_width=head_width,
            bias=bias,
            causal=True,
            q_norm=HeadLengthNorm(),
            k_norm=HeadLengthNorm(key_heads),
            projections={"v": Linear(width, half, bias=bias)},
            **options,
        )
        self.v_before = Linear(width, half, bias=bias)  # of the token before
        self.convolution = HeadConvolution(heads + key_heads, head_width, kernels)

    def memory(self) -> ConvolvedHeadsCache:  # type: ignore[override]
        return ConvolvedHeadsCache(self.window)

    def _heads(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        pairs, inputs, states = (None,) * 3 if memory is None else (memory.pairs, memory.inputs, memory.states)
        q, k = self.q(x), self.k(x)  # (tokens, heads * head width), (tokens, key heads * head width)
        widths = q.shape[1], k.shape[1]
        means, key_means = self._means(self._split(q), self._split(k))
        q, k = self.convolution(torch.cat([q, k], -1), context, inputs).split(widths, -1)
        v = torch.cat([self.v(x), self.v_before(previous(x, context, states))], -1)
        q, k = self.q_norm(self._split(q) + means), self.k_norm(self._split(k) + key_means)
        return self._attend(q, k, self._split(v), context, pairs)

    def _means(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return means of each query and its key, (tokens, heads, head width), and those of a key's queries."""
        groups = q.shape[1] // k.shape[1]
        means = (q + k.repeat_interleave(groups, 1)) * 0.5
        return means, means.unflatten(1, (-1, groups)).mean(2)


def previous(x: Tensor, context: ForwardContext, memory: StateLayerCache | None) -> Tensor:
    """Return the state of the token before each token, (tokens, width); zero before the first one of a text."""
    before = None if memory is None else memory.read(context)
    if before is None:
        before = x.new_zeros(len(context.runs), 1, x.shape[1])  # (sequences, 1, width)
    spread, rows, last = spaced(x, before, context)
    if memory is not None:
        memory.write(context, spread[last])
    return spread[rows - 1]
