"""Attention biases by distance that each query mixes of learned profiles (Inkling, Thinking Machines Lab, 2026)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..cache.layer_cache import KVLayerCache, StateLayerCache
from ..forward_context import ForwardContext
from ..state_space import ConvolutionCache
from ..weights import Linear
from .attention import Attention


class ConvolvedKeysCache:
    """Keys and values of a layer, and the last inputs of the convolutions that they come from."""

    def __init__(self, window: int | None) -> None:
        self.pairs, self.keys, self.values = KVLayerCache(window), ConvolutionCache(), ConvolutionCache()

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache]:
        yield from self.pairs.leaves()
        yield from self.keys.leaves()
        yield from self.values.leaves()


class LogScale(nn.Module):
    """Factor of scores that grows with a query's place: 1 + weight * log(place / length), 1 up to `length` tokens."""

    def __init__(self, weight: float, length: int) -> None:
        super().__init__()
        self.weight, self.length = weight, length

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Scale (tokens, heads, ...) of tokens at places (tokens,), counted from 0."""
        factors = 1.0 + self.weight * torch.log(((places + 1).float() / self.length).clamp(min=1.0))  # (tokens,)
        return (x.float() * factors[:, None, None]).to(x.dtype)


class ProfiledAttention(Attention):
    """Causal attention over convolved keys and values, with biases by distance that a query's own states decide.

    Args:
        convolution: makes those of keys and values (tokens, key heads * head width).
        profiles: how many there are. extent: distances that have a bias, from 0.
        log_scale: of queries and biases, by their places in the text; None for none.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        convolution: Callable[[], nn.Module],
        profiles: int,
        extent: int,
        log_scale: LogScale | None = None,
        **options: Any,
    ) -> None:
        super().__init__(width, heads, causal=True, bias=False, **options)
        self.k_convolution, self.v_convolution = convolution(), convolution()
        self.mix = Linear(width, heads * profiles, bias=False)
        self.profiles = nn.Parameter(torch.empty(profiles, extent))
        self.log_scale = log_scale

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.normal_(0.0, std)

    def memory(self) -> ConvolvedKeysCache:  # type: ignore[override]
        return ConvolvedKeysCache(self.window)

    @property
    def pages(self) -> bool:
        return False  # the biases need the keys' places

    def _heads(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        own = (None, None) if memory is None else (memory.keys, memory.values)
        k = self.k_convolution(self.k(x), context, own[0])  # (tokens, key heads * head width)
        q, k, v = self._shape(self.q(x), k, self.v_convolution(self.v(x), context, own[1]))
        biases = self.mix(x).unflatten(-1, (-1, self.profiles.shape[0])) @ self.profiles  # (tokens, heads, extent)
        if self.log_scale is not None:
            places = context.cached(places_of, lambda: places_of(context))  # (tokens,)
            q, biases = self.log_scale(q, places), self.log_scale(biases, places)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.pairs.extend(k, v, context)  # (rows, key heads, head width), with the cached tokens
        attention_mask = context.attention_mask(runs, causal=True, window=self.window)
        bias = self._by_distance(biases, attention_mask, context)
        return self._mix(q, k, v, attention_mask, bias, context, context.capture.attentions)

    def _by_distance(self, biases: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias:
        """Return the bias (heads, queries, keys) of each sequence, of biases (tokens, heads, extent)."""
        extent = biases.shape[-1]
        # One more, of farther keys: (heads, tokens, extent + 1).
        padded = F.pad(biases, (0, 1)).transpose(0, 1)
        queries, keys = attention_mask.queries, attention_mask.keys

        def of(text: int) -> Tensor:
            count, begin = queries.lengths[text], queries.begins[text]
            shape = count, keys.lengths[text]
            columns = context.cached(
                (ProfiledAttention, shape, extent), lambda: distances(*shape, extent, biases.device)
            )
            # later keys are not seen
            return padded[:, begin : begin + count].gather(-1, columns.expand(len(padded), -1, -1))

        return of


def distances(queries: int, keys: int, most: int, device: torch.device) -> Tensor:
    """Return how far back each key is, (queries, keys), within 0 and `most`; the last of both is the same token."""
    places = torch.arange(keys - queries, keys, device=device)  # (queries,)
    return (places[:, None] - torch.arange(keys, device=device)).clamp(0, most)


def places_of(context: ForwardContext) -> Tensor:
    """Return the place (tokens,) of each token in its own text, whatever positions a caller gave."""
    past = (0,) * len(context.runs) if context.cache is None else context.cache.lengths
    parts = [torch.arange(held, held + new) for held, new in zip(past, context.runs.lengths, strict=True)]
    return torch.cat(parts).to(context.positions.device)
