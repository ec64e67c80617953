"""Attention to a window of tokens and to summaries of windows of tokens (DeepSeek-V4, 2026).

A summary is a weighted sum of a window's tokens, channel by channel. A query sees all summaries of full windows, or
those that an index chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import InvalidInput, UnsupportedConfig
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import KVLayerCache
from ..cache.summary_cache import ClosedWindows, SummaryCache, WindowAndSummaryCache
from ..forward_context import ForwardContext
from ..positions import Rotary
from ..ragged import positions_in_sequences
from ..weights import Float32Parameters, GroupedLinear, Linear
from .attention import Attention
from .indexer import SCORES
from .latent import LowRank

QUERIES = 256  # of a sequence that are computed together: they share the keys of their window


def turn_pairs(x: Tensor, angles: tuple[Tensor, Tensor], *, back: bool = False) -> Tensor:
    """Rotate the last channels of (rows, heads, width), neighbours as a pair, by cosines and sines (rows, pairs)."""
    cos, sin = (part[:, None] for part in angles)  # (rows, 1, pairs)
    sin = -sin if back else sin
    plain, turned = x.split((x.shape[-1] - 2 * cos.shape[-1], 2 * cos.shape[-1]), -1)
    one, other = turned[..., ::2].float(), turned[..., 1::2].float()  # (rows, heads, pairs) each
    turned = torch.stack([one * cos - other * sin, other * cos + one * sin], -1).flatten(-2)
    return torch.cat([plain, turned.to(x.dtype)], -1)


class PlaceWeights(Float32Parameters):
    """Learned numbers of the places in a window, (rate, channels), added to the logits of its tokens."""

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, rate: int, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(rate, channels))


class WindowSummary(nn.Module):
    """Summaries of windows of `rate` tokens: norm(sum of softmax(gate(x) + place) * value(x)).

    Args:
        overlaps: a summary reads the window before its own, too, through other channels.
    """

    def __init__(self, width: int, out: int, rate: int, norm: nn.Module, *, overlaps: bool) -> None:
        super().__init__()
        channels = 2 * out if overlaps else out
        self.value, self.gate = Linear(width, channels, bias=False), Linear(width, channels, bias=False)
        self.value.widened = self.gate.widened = (torch.float16,)
        self.places, self.norm = PlaceWeights(rate, channels), norm
        self.out, self.rate, self.overlaps = out, rate, overlaps

    def forward(self, values: Tensor, gates: Tensor, first: Tensor) -> Tensor:
        """Return summaries (windows, out).

        Args:
            values, gates: (windows, span, channels); the span is a window, after the one before where they overlap.
            first: (windows,), whether nothing comes before a window.
        """
        bias, rate = self.places.bias, self.rate
        if not self.overlaps:
            logits = gates + bias  # (windows, rate, out)
        else:
            old = (gates[:, :rate, : self.out] + bias[:, : self.out]).masked_fill(first[:, None, None], -torch.inf)
            new = gates[:, rate:, self.out :] + bias[:, self.out :]
            logits = torch.cat([old, new], 1)  # (windows, 2 * rate, out)
            values = torch.cat([values[:, :rate, : self.out], values[:, rate:, self.out :]], 1)
        weights = logits.softmax(1, dtype=torch.float32).to(values.dtype)
        return self.norm((values * weights).sum(1))


class SummaryIndex(nn.Module):
    """Scores of summaries by a few small heads, of which a query sees the highest: sum of weight * relu(q . k).

    The choice has no gradient, so these parameters have none.

    Args:
        rank: of the queries' low-rank factor. chosen: summaries of a query.
    """

    unpacked: ClassVar = ("q", "weights")  # their numbers decide what is chosen

    def __init__(
        self, width: int, rank: int, summary: WindowSummary, *, heads: int, chosen: int, positions: Rotary
    ) -> None:
        super().__init__()
        self.summary, self.q = summary, Linear(rank, heads * summary.out, bias=False)
        self.weights = Linear(width, heads, bias=False)
        self.weights.widened = (torch.float16,)
        self.heads, self.chosen, self.positions = heads, chosen, positions

    @torch.no_grad()
    def queries(self, x: Tensor, narrow: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Return queries (tokens, heads, index width) and weights of the heads (tokens, heads), scaled."""
        q = turn_pairs(self.q(narrow).unflatten(-1, (self.heads, -1)), self.positions.turns(context))
        return q, self.weights(x).float() * (self.heads * self.summary.out) ** -0.5

    @torch.no_grad()
    def choose(self, q: Tensor, weights: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
        """Return the summaries that queries see of one sequence, (queries, summaries).

        Args:
            q: (queries, heads, index width). weights: (queries, heads). keys: (summaries, index width).
            seen: (queries,), how many of the first summaries are full.
        """
        count, k = keys.shape[0], keys.float().t()
        visible = torch.arange(count, device=q.device) < seen[:, None]  # (queries, summaries)
        if count <= self.chosen:
            return visible
        parts, step = [], max(1, SCORES // (self.heads * count))
        for start in range(0, q.shape[0], step):
            part = slice(start, start + step)
            each = torch.relu(q[part].float() @ k)  # (queries, heads, summaries)
            scores = (weights[part, None] @ each)[:, 0].masked_fill(~visible[part], -torch.inf)
            best = scores.topk(self.chosen, -1).indices
            parts.append(torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True))
        return visible & torch.cat(parts)


class GroupedLowRank(nn.Module):
    """Output projection in two steps, the first one in groups of heads: widen(narrow(x))."""

    def __init__(self, width: int, rank: int, out: int, groups: int) -> None:
        super().__init__()
        self.narrow = GroupedLinear(width, groups * rank, groups, bias=False)
        self.widen = Linear(groups * rank, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.widen(self.narrow(x))  # (tokens, width) to (tokens, out)


@dataclass(frozen=True)
class Summaries:
    """The summaries of all full windows of the sequences of a pass.

    Args:
        k: storage (slots, 1, head width). index: the same for an index, (slots, 1, index width or 0).
        rows: of storage, (summaries,); None for all. layout: summaries of each sequence.
    """

    k: Tensor
    index: Tensor
    rows: Tensor | None
    layout: SequenceLayout

    def of(self, text: int, count: int) -> Tensor:
        """Return the storage rows of a sequence's first summaries, (count,)."""
        begin = self.layout.begins[text]
        return (
            torch.arange(begin, begin + count, device=self.k.device)
            if self.rows is None
            else self.rows[begin : begin + count]
        )


class SummaryAttention(Attention):
    """Attention whose one key of a token is its value, too; turned values are turned back after they are mixed.

    Args:
        summary: summarizes windows that a query may see whole; None for the window of tokens alone.
        index: chooses among summaries; None for all.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int,
        query: LowRank,
        key_norm: nn.Module,
        out: GroupedLowRank,
        positions: Rotary,
        summary: WindowSummary | None = None,
        index: SummaryIndex | None = None,
        **options: Any,
    ) -> None:
        if type(positions) is not Rotary:
            raise UnsupportedConfig("Summaries cannot be turned by positions that depend on the sequence's length.")
        parts = {"q": query, "k": Linear(width, head_width, bias=False), "v": nn.Identity(), "out": out}
        super().__init__(
            width, heads, head_width=head_width, key_heads=1, projections=parts, positions=positions, causal=True,
            k_norm=key_norm, sinks=True, **options,
        )  # fmt: skip
        self.summary, self.index = summary, index

    def memory(self) -> Any:
        near = KVLayerCache(self.window)
        if self.summary is None:
            return near
        rate = self.summary.rate
        return WindowAndSummaryCache(near, KVLayerCache(rate * (1 + self.summary.overlaps)), SummaryCache(rate))

    def _heads(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        low: Any = self.q
        narrow = low.narrow(x)  # (tokens, query rank)
        angles = self.positions.turns(context)
        assert angles is not None
        q = turn_pairs(self.q_norm(self._split(low.up(narrow))), angles)  # (tokens, heads, head width)
        k = turn_pairs(self.k_norm(self.k(x))[:, None], angles)  # (tokens, 1, head width)
        runs, near = context.runs, memory if self.summary is None or memory is None else memory.near
        if near is not None:
            k, _, runs = near.extend(k, k[..., :0], context)  # the key is the value, too
        if self.summary is None:
            mask = context.attention_mask(runs, causal=True, window=self.window)
            mixed = self._mix(q, k, k, mask, None, context, context.capture.attentions)
        else:
            summaries = self._summarize(x, context, memory)
            scored = None if self.index is None else self.index.queries(x, narrow, context)
            mixed = self._mix_both(q, k, runs, summaries, scored, context)
        return turn_pairs(mixed, angles, back=True)

    def _summarize(self, x: Tensor, context: ForwardContext, memory: WindowAndSummaryCache | None) -> Summaries:
        """Summarize the windows that this pass fills; return all summaries."""
        assert self.summary is not None
        several = [self.summary] if self.index is None else [self.summary, self.index.summary]
        values, gates = (
            torch.cat([getattr(each, part)(x) for each in several], -1)[:, None] for part in ("value", "gate")
        )  # (tokens, 1, channels of all) each
        closed = context.cached((ClosedWindows, self.summary.rate), lambda: self._closed(context))
        runs = context.runs
        if memory is not None:
            values, gates, runs = memory.open.extend(values, gates, context)
        key = (WindowSummary, self.summary.rate, self.summary.overlaps)
        rows, first, starts = context.cached(key, lambda: self._spans(closed, runs, context))
        values, gates = values[:, 0][rows], gates[:, 0][rows]  # (new windows, span, channels of all)
        sizes = [each.value.out_features for each in several]
        made = [
            each(value, gate, first)
            for each, value, gate in zip(several, values.split(sizes, -1), gates.split(sizes, -1), strict=True)
        ]  # (new windows, out) each
        angles = self.positions.of(starts)  # type: ignore[operator]
        turned = [turn_pairs(part[:, None].to(x.dtype), angles) for part in made]
        k, index = turned if len(turned) == 2 else (turned[0], turned[0][..., :0])
        index = index.detach()
        if memory is None:
            return Summaries(k, index, None, SequenceLayout.packed(closed.after))
        return Summaries(*memory.summaries.extend_summaries(k, index, closed, context))

    def _closed(self, context: ForwardContext) -> ClosedWindows:
        assert self.summary is not None
        if context.custom_positions:
            past = None if context.cache is None else context.cache.lengths
            counted = positions_in_sequences(context.runs, context.positions.device, past)
            if not torch.equal(context.positions, counted):
                raise InvalidInput(
                    "This family summarizes windows that are counted from the first token of a text. position_ids must "
                    "count its tokens from 0, or be left out."
                )
        return ClosedWindows.of(self.summary.rate, context)

    def _spans(
        self, closed: ClosedWindows, runs: SequenceLayout, context: ForwardContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows (new windows, span) of the tokens of each, which are first, and the positions of their begins."""
        assert self.summary is not None
        rate, before, new = self.summary.rate, self.summary.rate * self.summary.overlaps, closed.new()
        past = (0,) * len(runs) if context.cache is None else context.cache.lengths
        # The row of position 0 of each sequence, which may be out of the window and below 0.
        zeros = [
            begin + length - held - own
            for begin, length, held, own in zip(runs.begins, runs.lengths, past, context.runs.lengths, strict=True)
        ]
        device = context.positions.device
        begins = torch.tensor([zeros[text] + window * rate - before for text, window in new], dtype=torch.long)
        rows = (begins[:, None] + torch.arange(before + rate)).clamp(min=0).to(device)
        starts = torch.tensor([window * rate for _, window in new], dtype=torch.long, device=device)
        return rows, starts == 0, starts

    def _mix_both(
        self,
        q: Tensor,
        near: Tensor,
        runs: SequenceLayout,
        summaries: Summaries,
        scored: tuple[Tensor, Tensor] | None,
        context: ForwardContext,
    ) -> Tensor:
        """Attend to summaries and tokens: (tokens, heads, head width); near: (rows, 1, head width), of layout runs."""
        assert self.window is not None
        whole = context.capture.attentions is not None  # shown weights are a matrix a sequence
        parts: list[Tensor] = []
        biases: list[Tensor | None] = []
        queries: list[tuple[int, int]] = []
        past_of = (0,) * len(context.runs) if context.cache is None else context.cache.lengths
        spans = zip(past_of, context.runs.lengths, context.runs.begins, strict=True)
        for text, (past, own, begin) in enumerate(spans):
            step = max(own, 1) if whole else QUERIES
            for start in range(0, max(own, 1) if whole else own, step):
                part = slice(begin + start, begin + min(start + step, own))
                count = part.stop - part.start
                end = past + start + count  # the position after the last query's
                keys, hidden = self._keys(text, part, end, near, runs, past + own, summaries, scored, whole)
                parts.append(keys)
                biases.append(hidden)
                queries.append((part.start, count))
        layout = SequenceLayout.packed(tuple(len(keys) for keys in parts))
        asked = SequenceLayout(tuple(first for first, _ in queries), tuple(count for _, count in queries))
        keys = torch.cat(parts) if parts else near

        def bias(number: int) -> Tensor:
            given = biases[number]
            return keys.new_zeros(1, 1, len(parts[number])) if given is None else given

        used = bias if any(each is not None for each in biases) else None
        return self._mix(q, keys, keys, AttentionMask(asked, layout), used, context, context.capture.attentions)

    def _keys(
        self,
        text: int,
        part: slice,
        end: int,
        near: Tensor,
        runs: SequenceLayout,
        total: int,
        summaries: Summaries,
        scored: tuple[Tensor, Tensor] | None,
        whole: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return keys (keys, 1, head width) of some queries, summaries first, and the bias that hides some of them.

        Args:
            part: rows of the queries. end: position after the last one's. total: tokens of the sequence.
        """
        assert self.summary is not None
        assert self.window is not None
        device, count, rate = near.device, part.stop - part.start, self.summary.rate
        held = runs.lengths[text]
        first = total - held if whole else max(end - count - self.window + 1, total - held, 0)  # position of a key
        row = runs.begins[text] + first - (total - held)
        tokens, full = near[row : row + end - first], end // rate
        places = torch.arange(end - count, end, device=device)  # positions of the queries
        seen = (places + 1) // rate  # (queries,), full windows of each
        rows = summaries.of(text, full)
        if scored is not None and full:
            assert self.index is not None
            q, weights = scored[0][part], scored[1][part]
            keys = summaries.index[rows][:, 0]  # (summaries, index width)
            visible = self.index.choose(q, weights, keys, seen)  # (queries, summaries)
        else:
            visible = torch.arange(full, device=device) < seen[:, None]
        if count == 1 and not whole:  # read the visible ones alone
            return torch.cat([summaries.k[rows[visible[0]]], tokens]), None
        ahead = torch.arange(first, end, device=device) - places[:, None]  # (queries, tokens)
        visible = torch.cat([visible, (ahead <= 0) & (ahead > -self.window)], 1)
        lowest = torch.finfo(near.dtype).min
        bias = torch.zeros(visible.shape, dtype=near.dtype, device=device).masked_fill(~visible, lowest)
        return torch.cat([summaries.k[rows], tokens]), bias[None]
