"""Prediction of several next tokens at once, a stream of states for each (ProphetNet, arXiv:2001.04063)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import KVLayerCache, cache_or_none
from ..embeddings import Embeddings, LearnedPositions
from ..forward_context import ForwardContext, OutputCapture
from ..layer import CrossLayer
from ..stack import Stack
from ..weights import Embedding, Linear
from .attention import Attention
from .position_bias import bucket_of


class NgramPositions(LearnedPositions):
    """Learned positions whose streams of predictions stand one place further."""

    @property
    def count(self) -> int:
        """Number of positions, from 0, whose next one has a vector too."""
        return super().count - 1

    def after(self, positions: Tensor) -> Tensor:
        """Return the vectors of the next positions, (tokens, width)."""
        return self.table(positions + self.offset + 1)


class ClampedPositions(nn.Module):
    """Learned positions, the last of which is that of all tokens after it too.

    Args:
        offset: rows before the first position's.
    """

    def __init__(self, count: int, width: int, *, offset: int) -> None:
        super().__init__()
        self.table, self.offset = Embedding(count, width), offset

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions (tokens,) to (tokens, width)."""
        return self.table((positions + self.offset).clamp(max=self.table.num_embeddings - 1))


class NgramAttention(Attention):
    """Causal attention of the stream of tokens and of the streams of predictions.

    Stream number n predicts a token from those more than n places before it: it sees the first token, those at least n
    places before its own place, and its own state there, whose key and value no other sees. A query scores each
    distance by its own state.

    Args:
        buckets: of distances. reach: distance from which all keys share the last one.
    """

    def __init__(self, width: int, heads: int, *, buckets: int, reach: int, dropout: float = 0.0) -> None:
        super().__init__(width, heads, causal=True, dropout=dropout)
        self.distances = Linear(width, buckets * heads)
        self.buckets, self.reach, self.heads = buckets, reach, heads

    def streams(
        self, states: Sequence[Tensor], context: ForwardContext, memory: KVLayerCache | None
    ) -> tuple[Tensor, ...]:
        """Map states of the tokens and of each prediction, (tokens, width) each, to the same."""
        x, size = torch.cat(list(states)), len(states[0])
        q, k, v = (part.split(size) for part in self._project(x))  # (tokens, heads, head width) each
        # (tokens, heads, buckets) each
        far = self.distances(x).unflatten(-1, (self.buckets, self.heads)).transpose(1, 2).split(size)
        keys, values, runs = k[0], v[0], context.runs
        if memory is not None:
            keys, values, runs = memory.extend(keys, values, context)  # (rows, heads, head width), with cached tokens
        mask = context.attention_mask(runs, causal=True, window=None)
        record = context.capture.attentions
        mixed = [self._mix(q[0], keys, values, mask, self._bias(far[0], mask, context, None), context, record)]
        joined = AttentionMask(context.runs, joined_runs(runs, context.runs))
        for number in range(1, len(states)):
            own_k, own_v = (interleave(a, b[number], runs, context.runs) for a, b in ((keys, k), (values, v)))
            bias = self._bias(far[number], mask, context, number - 1)
            mixed.append(self._mix(q[number], own_k, own_v, joined, bias, context, None))
        return self.out(torch.cat(mixed).flatten(1)).split(size)

    def _bias(self, far: Tensor, mask: AttentionMask, context: ForwardContext, stream: int | None) -> Bias:
        """Return scores of distances (heads, queries, keys): of a prediction, with the lowest for hidden keys."""
        queries, keys = mask.queries, mask.keys

        def of(text: int) -> Tensor:
            begin, count, total = queries.begins[text], queries.lengths[text], keys.lengths[text]
            places, hidden = context.cached(
                (NgramAttention, self.buckets, self.reach, count, total, stream),
                lambda: self._places(count, total, stream, far.device),
            )
            own = far[begin : begin + count].transpose(0, 1)  # (heads, queries, buckets)
            scores = own.gather(2, places.expand(len(own), -1, -1))
            return scores if hidden is None else scores.masked_fill(hidden, torch.finfo(scores.dtype).min)

        return of

    def _places(self, count: int, total: int, stream: int | None, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return the bucket of each key, and which a prediction does not see: (queries, keys) each."""
        rows = torch.arange(total - count, total, device=device)[:, None]  # (queries, 1)
        distance = rows - torch.arange(total, device=device)  # (queries, keys)
        if stream is None:
            return bucket_of(distance.clamp(min=0), self.buckets, self.reach), None
        own = ~torch.eye(count, dtype=torch.bool, device=device)  # of these keys the one at its place alone is seen
        hidden = torch.cat([(distance < stream) & (distance != rows), own], 1)
        places = bucket_of((distance + 1).clamp(min=0), self.buckets, self.reach)
        return torch.cat([places, places.new_zeros(count, count)], 1), hidden


def joined_runs(first: SequenceLayout, second: SequenceLayout) -> SequenceLayout:
    """Return the layout of sequences that are those of two layouts, one behind the other."""
    return SequenceLayout.packed(tuple(a + b for a, b in zip(first.lengths, second.lengths, strict=True)))


def interleave(first: Tensor, second: Tensor, runs: SequenceLayout, own: SequenceLayout) -> Tensor:
    """Join the rows of each sequence in two tensors, (rows, ...) each."""
    parts = [(first, runs), (second, own)]
    found = [
        rows.narrow(0, layout.begins[text], layout.lengths[text]) for text in range(len(runs)) for rows, layout in parts
    ]
    return torch.cat(found) if found else first[:0]


class NgramLayer(CrossLayer):
    """Post-norm layer for all streams."""

    def streams(self, states: Sequence[Tensor], context: ForwardContext, memory: Any) -> Sequence[Tensor]:
        """Map states of the tokens and of each prediction, (tokens, width) each, to the same."""
        step = self.attention
        new = step.step.streams(states, context, memory)  # type: ignore[operator]
        states = [step.after(x + step.dropout(y)) for x, y in zip(states, new, strict=True)]
        if context.encoder_output is not None:
            quiet = replace(context, capture=OutputCapture())
            states = [self.cross(x, quiet if number else context) for number, x in enumerate(states)]
        return self.ffn(torch.cat(list(states))).split(len(states[0]))


class NgramStack(Stack):
    """Decoder of ProphetNet. Its states are those of the tokens, or of the first prediction, which scores read.

    A pass that continues cached tokens computes the first prediction alone. Every other pass shares the states of all
    predictions, (tokens, width) each, under `NgramStack`.

    Args:
        ngram: number of next tokens that a token predicts.
    """

    predicts = False

    def __init__(self, embed: Embeddings, layers: Sequence[NgramLayer], width: int, ngram: int) -> None:
        super().__init__(embed, layers)
        self.ngrams = Embedding(ngram, width)

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, width) to states (tokens, width)."""
        cache, shown = context.cache, context.capture.hidden
        continues = cache is not None and tuple(cache.totals(context.runs)) != tuple(context.runs.lengths)
        count = 1 if continues else self.ngrams.num_embeddings
        main = self.embed(words, context)  # first, since it checks the positions
        ahead = self.embed.position.after(context.positions)  # type: ignore[union-attr, operator]
        firsts = [self.ngrams.weight[number - 1] + ahead for number in range(count)]  # the last row is the first's
        states: Sequence[Tensor] = [main, *(self.embed.dropout(self.embed.norm(x)) for x in firsts)]
        for number, layer in enumerate(self.layers):
            if shown is not None:
                shown.append(states[0])
            states = layer.streams(states, context, cache_or_none(cache.layers[number]) if cache else None)  # type: ignore[operator]
        if cache is not None:
            cache.advance(context.runs)
        if shown is not None:
            shown.append(states[0])
        if not continues:
            context.share(NgramStack, states[1:])
        return states[1 if self.predicts else 0]
