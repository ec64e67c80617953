"""Encoders whose later blocks read pooled sequences (Funnel Transformer, Dai et al., 2020, arXiv:2006.03236)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.backend import Bias
from ..kernels.ragged import AttentionMask, SequenceLayout
from .attention.attention import Attention
from .embeddings import Embeddings
from .forward_context import ForwardContext
from .layer import Residual
from .ragged import Layout, ShorterStates, positions_in_sequences, select_tokens, sequence_ids
from .stack import Stack
from .weights import Dropout, Linear


@dataclass(frozen=True)
class Pooling:
    """Rule that pools a sequence to about half its length.

    Args:
        kind: `mean` or `max` of two neighbours. first_apart: the first position is not pooled.
        cut: the last position of an even length is left out, where the first is apart.
    """

    kind: str
    first_apart: bool
    cut: bool

    def lengths(self, runs: SequenceLayout) -> SequenceLayout:
        """Return the layout of the pooled sequences; one of the shortest length stays as it is."""
        more = 2 if self.first_apart and not self.cut else 1
        shortest = 2 if self.first_apart else 1
        return SequenceLayout.packed(tuple(n if n <= shortest else (n + more) // 2 for n in runs.lengths))

    def rows(self, runs: SequenceLayout, into: SequenceLayout, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the rows of the two states of each pooled position, (positions,) each; one is alone twice."""
        place, text = positions_in_sequences(into, device), sequence_ids(into, device)  # (positions,) each
        lengths, pooled, begins = (
            torch.tensor(each, device=device)[text] for each in (runs.lengths, into.lengths, runs.begins)
        )
        first = (2 * place - 1).clamp(min=0) if self.first_apart else 2 * place
        second = 2 * place + (0 if self.first_apart else 1)
        second = torch.where(second < (lengths - 1 if self.first_apart and self.cut else lengths), second, first)
        same = lengths == pooled
        first, second = torch.where(same, place, first), torch.where(same, place, second)
        return begins + first, begins + second

    def pool(self, x: Tensor, rows: tuple[Tensor, Tensor]) -> Tensor:
        """Map states (tokens, width) to (positions, width)."""
        first, second = (x.index_select(0, each) for each in rows)
        return (first + second) / 2 if self.kind == "mean" else torch.maximum(first, second)


@dataclass(frozen=True)
class Level:
    """Sequences of one block.

    Args:
        runs: their layout. segments: (positions,), token types.
    """

    runs: SequenceLayout
    segments: Tensor


class PooledAttention(Attention):
    """Attention of queries to keys of their own level or of the one before, by content, distance and token type.

    Args:
        first_apart: the first position has no distances and no types. apart: the type that all types belong to.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, *, first_apart: bool, apart: int, dropout: float, drop: float
    ) -> None:
        q = {"q": Linear(width, heads * head_width, bias=False)}
        super().__init__(width, heads, head_width=head_width, projections=q, dropout=dropout)
        self.distances = Linear(width, heads * head_width, bias=False)
        # Added to all queries of a head before they meet keys, distances or types: (heads, head width) each.
        self.word_bias, self.distance_bias, self.segment_bias = (
            nn.Parameter(torch.empty(heads, head_width)) for _ in range(3)
        )
        self.segments = nn.Parameter(torch.empty(2, heads, head_width))  # another type, the same type
        self.width, self.first_apart, self.apart, self.drop = width, first_apart, apart, Dropout(drop)

    def forward(  # type: ignore[override]
        self, x: Tensor, keys: Tensor, own: Level, other: Level, step: int, context: ForwardContext
    ) -> Tensor:
        """Map queries (positions, width) and states of keys (positions, width) to (positions, width).

        Args:
            own, other: levels of queries and of keys. step: tokens from one key to the next.
        """
        q, k, v = self._split(self.q(x)), self._split(self.k(keys)), self._split(self.v(keys))
        attention_mask = AttentionMask(own.runs, other.runs)
        bias = self._bias(q, own, other, step)
        mixed = self._mix(
            q + self.word_bias, k, v, attention_mask, bias, context, context.capture.attentions
        )  # (positions, heads, head width)
        return self.out(mixed.flatten(1))

    def _bias(self, q: Tensor, own: Level, other: Level, step: int) -> Bias:
        """Return a function that gives a sequence's scores (heads, queries, keys) of distances and types."""
        reach = max(own.runs.longest * 2, other.runs.longest, 1) + 1  # distances in steps are below
        table = self.distances(self._table(reach, step, q)).unflatten(-1, q.shape[1:])  # (2 reach, heads, head width)
        # (heads, queries, 2 reach): each query meets each distance once, and pairs look it up
        far = torch.einsum("qhd,rhd->hqr", q + self.distance_bias, table)
        either = torch.einsum("qhd,shd->hqs", q + self.segment_bias, self.segments)  # (heads, queries, 2)

        def of(text: int) -> Tensor:
            begin, queries = own.runs.begins[text], own.runs.lengths[text]
            start, keys = other.runs.begins[text], other.runs.lengths[text]
            ahead = self._steps(queries, keys, own is not other, q.device)  # (queries, keys)
            rows = (ahead + reach).expand(q.shape[1], -1, -1)
            mine, theirs = own.segments[begin : begin + queries, None], other.segments[start : start + keys]
            same = (mine == theirs) | (mine == self.apart) | (theirs == self.apart)  # (queries, keys)
            scores = far[:, begin : begin + queries].gather(2, rows)
            scores = scores + either[:, begin : begin + queries].gather(2, same.long().expand_as(rows))
            if self.first_apart:
                inner = torch.ones_like(same)
                inner[0], inner[:, 0] = False, False
                scores = scores * inner
            return scores * self.scale

        return of

    def _steps(self, queries: int, keys: int, pooled: bool, device: torch.device) -> Tensor:
        """Return (queries, keys), query position minus key position, in steps of the keys."""
        first = 1 if self.first_apart else 0  # the position from which sequences are pooled
        places = (torch.arange(queries, device=device) - first) * (2 if pooled else 1)
        return places[:, None] - (torch.arange(keys, device=device) - first)

    def _table(self, reach: int, step: int, like: Tensor) -> Tensor:
        """Return sines and cosines (2 reach, width) of the distances from -`reach` steps up."""
        places = torch.arange(-reach, reach, device=like.device).float() * step  # (2 reach,)
        half = self.width // 2
        angles = places[:, None] / 10000 ** (torch.arange(half, device=like.device).float() / half)
        return torch.cat([self.drop(angles.sin()), self.drop(angles.cos())], -1).to(like.dtype)


class PooledLayer(nn.Module):
    """Attention between two levels, then feed-forward."""

    def __init__(self, attention: Residual, ffn: Residual) -> None:
        super().__init__()
        self.attention, self.ffn = attention, ffn

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.ffn(self.attention(x, *args))  # (positions, width)


class PooledStack(Stack):
    """Blocks of layers, each of which reads half the positions of the one before, and layers of all tokens.

    Args:
        blocks: layers of each block. repeats: of each layer of a block. pooling: between blocks.
        queries_only: a block's first layer reads keys of the level before.
        decoder: layers of all tokens; None for a stack whose states are the last block's.
    """

    def __init__(
        self,
        embed: Embeddings,
        blocks: Sequence[Sequence[nn.Module]],
        decoder: Sequence[nn.Module] | None,
        *,
        repeats: Sequence[int],
        pooling: Pooling,
        queries_only: bool,
    ) -> None:
        super().__init__(embed, [nn.ModuleList(block) for block in blocks])
        self.decoder = None if decoder is None else nn.ModuleList(decoder)
        self.repeats, self.pooling, self.queries_only = tuple(repeats), pooling, queries_only

    @property
    def causal(self) -> bool:
        return False

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    @property
    def typed(self) -> bool:
        return True

    def output_runs(self, context: ForwardContext) -> SequenceLayout:
        return context.runs if self.decoder is not None else pooled_runs(context)

    def filled(self, layout: Layout, context: ForwardContext) -> Layout:
        runs = self.output_runs(context)
        if runs is context.runs:
            return layout
        rows, real = runs.padded(context.positions.device)
        return Layout.of(real, (rows.shape[0], rows.shape[1]))

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, width) to hidden states (tokens, width), or (positions, width)."""
        context = context if self.adjust is None else self.adjust(context)
        types = torch.zeros_like(context.positions) if context.segments is None else context.segments
        tokens = Level(context.runs, types)
        states, level = self._encode(self.embed(words, context), tokens, context)
        context.share(PooledStack, level.runs)
        seen, x = context.capture.hidden, states[-1]
        if seen is not None:
            seen += [ShorterStates(state, runs) for state, runs in zip(states, self._layouts(tokens.runs), strict=True)]
        if self.decoder is None:
            return x
        # The state after as many layers as the first block has, which repeats do not change.
        x = self._upsample(x, level.runs, tokens.runs) + states[len(self.layers[0])]  # type: ignore[arg-type]
        shown = [x]
        for layer in self.decoder:
            shown.append(layer(shown[-1], shown[-1], tokens, tokens, 1, context))
        if seen is not None:
            seen += shown
        return shown[-1]

    def _encode(self, x: Tensor, level: Level, context: ForwardContext) -> tuple[list[Tensor], Level]:
        """Return the states after each layer of the blocks, the embeddings first, and the last level."""
        states = [x]
        for number, (block, repeats) in enumerate(zip(self.layers, self.repeats, strict=True)):
            step = 2**number
            keys, own, other = x, level, level
            if number:
                runs = self.pooling.lengths(level.runs)
                rows = self.pooling.rows(level.runs, runs, x.device)
                x = self.pooling.pool(x, rows)
                own = level = Level(runs, level.segments[rows[0]])
                keys, other, step = (keys, other, step // 2) if self.queries_only else (x, own, step)
            for layer in (layer for layer in block for _ in range(repeats)):  # type: ignore[attr-defined]
                x = layer(x, keys, own, other, step, context)
                states.append(x)
                keys, other, step = x, own, 2**number
        return states, level

    def _layouts(self, runs: SequenceLayout) -> list[SequenceLayout]:
        """Return the layout of the states that `_encode` returns."""
        found = [runs]
        for number, (block, repeats) in enumerate(zip(self.layers, self.repeats, strict=True)):
            runs = self.pooling.lengths(runs) if number else runs
            found += [runs] * (len(block) * repeats)  # type: ignore[arg-type]
        return found

    def _upsample(self, x: Tensor, runs: SequenceLayout, into: SequenceLayout) -> Tensor:
        """Return for each token its pooled state (tokens, width), zero where the token was cut off."""
        place, text = positions_in_sequences(into, x.device), sequence_ids(into, x.device)  # (tokens,) each
        begins, counts = (torch.tensor(each, device=x.device)[text] for each in (runs.begins, runs.lengths))
        step = 2 ** (len(self.layers) - 1)
        own = place // step
        if self.pooling.first_apart:
            own = torch.where(place > 0, 1 + (place - 1) // step, 0)
        real = own < counts
        return x[begins + torch.where(real, own, 0)] * real[:, None]


def pooled_runs(context: ForwardContext) -> SequenceLayout:
    """Return the layout of the last block's positions."""
    found: SequenceLayout = context.shared(PooledStack)
    return found


def first_pooled(hidden: Tensor, context: ForwardContext) -> Tensor:
    """Return the first state of each sequence (sequences, width), given states of the last block."""
    return select_tokens(hidden, pooled_runs(context), 0)
