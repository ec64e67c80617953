"""Hashed n-gram embeddings: vectors of a token and those before it, added to a layer's streams (Qwen4-Exp, 2026).

The words of an n-gram are hashed to rows of large tables, several for each length. What is read there is gated by the
hidden states, and a short convolution adds what was read for the tokens before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.hardware import kept_on
from .cache.layer_cache import StateLayerCache
from .embeddings import Embeddings
from .forward_context import ForwardContext
from .norms import GroupedRMSNorm
from .per_layer import search_ids
from .state_space import ConvolutionCache, ShortConvolution, spaced
from .weights import Embedding, Linear

WORD = (1 << 64) - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # constants of SplitMix64
STRIDE = 10007  # between the seeds of two layers


def split_mix(value: int) -> int:
    """Return a number of SplitMix64 (Steele, Lea and Flood, 2014), 64 bits."""
    value = (value + GOLDEN) & WORD
    value = ((value ^ (value >> 30)) * MIX1) & WORD
    value = ((value ^ (value >> 27)) * MIX2) & WORD
    return value ^ (value >> 31)


@cache
def primes_from(start: int, count: int) -> tuple[int, ...]:
    """Return the first `count` primes that are at least `start`."""
    found: list[int] = []
    value = max(start, 2)
    while len(found) < count:
        if all(value % divisor for divisor in range(2, math.isqrt(value) + 1)):
            found.append(value)
        value += 1
    return tuple(found)


@dataclass(frozen=True)
class NGramHash:
    """Hash of the n-grams of one layer; all numbers follow from these.

    Args:
        vocabulary: of tokens. longest: words of an n-gram, from 2. each: tables of n-grams of one length.
        base: least number of rows of a table. number: of the layer among those with n-grams. end: id that no n-gram
            passes, and that stands before a text.
    """

    vocabulary: int
    longest: int
    each: int
    base: int
    seed: int
    number: int
    end: int

    @property
    def tables(self) -> int:
        return (self.longest - 1) * self.each

    @property
    def sizes(self) -> Tensor:
        """Rows of each table, (tables,)."""
        primes = primes_from(self.base, (self.number + 1) * self.tables)
        return torch.tensor(primes[-self.tables :], device="cpu")

    @property
    def offsets(self) -> Tensor:
        """First row of each table among those of all, (tables,)."""
        return self.sizes.cumsum(0) - self.sizes

    @property
    def factors(self) -> Tensor:
        """Odd factors of the ids of an n-gram, its last word's first, (longest,)."""
        half = max(1, ((1 << 63) - 1) // max(self.vocabulary, 1) // 2)
        first = self.seed + STRIDE * self.number
        mixed = [split_mix((first + GOLDEN * (place + 1)) & WORD) for place in range(self.longest)]
        return torch.tensor([2 * (value % half) + 1 for value in mixed], device="cpu")


class NGramCache(ConvolutionCache):
    """Cached state of n-gram features: the last inputs of the convolution, and the last ids of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = StateLayerCache()  # (sequences, longest - 1), minus the end's, so that a text begins with zeros

    def leaves(self) -> Iterator[StateLayerCache]:
        yield self.inputs
        yield self.ids


class NGramEmbeddings(nn.Module):
    """Embeddings of the n-grams that end at each token, of all lengths and tables.

    Args:
        rows: of all tables together, and some that no n-gram has.
    """

    looks_up_tokens: ClassVar[bool] = True  # the factors of the hash belong to one vocabulary

    def __init__(self, rule: NGramHash, rows: int, width: int) -> None:
        super().__init__()
        self.rule, self.table = rule, Embedding(rows, width)
        self.sizes, self.offsets, self.factors = rule.sizes, rule.offsets, rule.factors  # derived: no buffers

    def forward(self, ids: Tensor, context: ForwardContext, memory: NGramCache | None) -> Tensor:
        """Map ids (tokens,) to (tokens, tables * width)."""
        return self.table(self.places(ids, context, memory)).flatten(1)

    def places(self, ids: Tensor, context: ForwardContext, memory: NGramCache | None) -> Tensor:
        """Return rows of the table (tokens, tables)."""
        rule, device = self.rule, ids.device
        held = None if memory is None else memory.ids.read(context)
        if held is None:
            held = ids.new_zeros(len(context.runs), rule.longest - 1)
        # history: (rows,), each sequence after its last ids; rows: (tokens,); ends: (sequences, longest - 1)
        history, rows, ends = spaced(ids.long() - rule.end, held, context)
        if memory is not None:
            memory.ids.write(context, history[ends])
        sizes, offsets, factors = (kept_on(device, self, name) for name in ("sizes", "offsets", "factors"))
        found, whole = [], torch.ones_like(rows, dtype=torch.bool)
        mixed = (history[rows] + rule.end) * factors[0]  # (tokens,)
        for back in range(1, rule.longest):
            before = history[rows - back]
            whole = whole & (before != 0)  # (tokens,), False where a text has ended since
            mixed = mixed ^ ((before * whole + rule.end) * factors[back])
            part = slice((back - 1) * rule.each, back * rule.each)
            found.append(torch.remainder(mixed[:, None], sizes[part]) + offsets[part])  # (tokens, each)
        return torch.cat(found, 1)


class DilatedConvolution(ShortConvolution):
    """Causal convolution of each channel over every `dilation`-th of the tokens before.

    Args:
        dilation: distance of the tokens that are seen.
    """

    def __init__(self, channels: int, kernel: int, *, dilation: int) -> None:
        super().__init__(channels, kernel, bias=False)
        self.dilation = dilation

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to zeros, so that a new layer adds no convolution."""
        parameter.zero_()


class NGramFeatures(nn.Module):
    """Features of n-grams that are added to all streams: a value, gated by each stream, and its convolution.

    Args:
        inner: width of the embeddings of a token's n-grams. norms: of keys, of the streams and of gated values.
    """

    def __init__(
        self, embed: NGramEmbeddings, width: int, streams: int, inner: int, kernel: int, dilation: int, eps: float
    ) -> None:
        super().__init__()
        self.embed, self.streams = embed, streams
        self.key, self.value = Linear(inner, streams * width, bias=False), Linear(inner, width, bias=False)
        self.key_norm, self.state_norm, self.out_norm = (GroupedRMSNorm(streams * width, streams, eps) for _ in "kso")
        self.convolution = DilatedConvolution(streams * width, kernel, dilation=dilation)

    def memory(self) -> NGramCache:
        return NGramCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: NGramCache | None) -> Tensor:
        """Map streams (tokens, streams * width) to what is added to them."""
        read = self.embed(context.shared(StreamEmbeddings), context, memory)  # (tokens, inner)
        keys, states = self.key_norm(self.key(read)), self.state_norm(x)  # (tokens, streams * width)
        match = (keys * states).unflatten(-1, (self.streams, -1)).sum(-1, keepdim=True)  # (tokens, streams, 1)
        match = match / math.sqrt(x.shape[-1] // self.streams)
        gate = torch.sigmoid(match.abs().clamp_min(1e-6).sqrt() * match.sign())
        gated = (gate * self.value(read)[:, None]).flatten(1)  # (tokens, streams * width)
        return gated + F.silu(self.convolution(self.out_norm(gated), context, memory))


class StreamEmbeddings(Embeddings):
    """Token embeddings, repeated for each of several streams; the ids are kept for the layers that hash them.

    Args:
        streams: how many. hashes: whether layers read ids, which are searched where a caller gives vectors.
    """

    def __init__(self, token: nn.Embedding, streams: int, *, hashes: bool) -> None:
        super().__init__(token)
        self.streams, self.hashes = streams, hashes

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Return streams (tokens, streams * width)."""
        x = super().forward(words, context)
        if self.hashes:
            ids = search_ids(self.token, x) if context.ids is None else context.ids
            context.share(StreamEmbeddings, ids, by_token=True)
        return x.repeat(1, self.streams)
