"""Local attention in blocks, whose cost grows linearly with the length of a sequence.

LongT5 (Guo et al., 2021, arXiv:2112.07916).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from ..positions import Positions
from .attention import Attention
from .position_bias import BucketedBias


@dataclass(frozen=True)
class Blocks:
    """Blocks of queries and the keys near each block.

    Args:
        queries, keys: rows of each block's queries, and of the keys that any of them may see.
        texts: the text of each block. places: of its first query within its text.
    """

    queries: SequenceLayout
    keys: SequenceLayout
    texts: tuple[int, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, runs: SequenceLayout, size: int, reach: int) -> Blocks:
        """Build blocks of `size` queries, each of which sees keys less than `reach` positions away."""
        rows = []
        for text, (begin, length) in enumerate(zip(runs.begins, runs.lengths, strict=True)):
            for place in range(0, length, size):
                # The first query sees reach - 1 tokens before the block, the last one reach - 1 after it.
                low, high = max(0, place - reach + 1), min(length, place + size + reach - 1)
                rows.append((begin + place, min(size, length - place), begin + low, high - low, text, place))
        parts = tuple(zip(*rows, strict=True)) or ((),) * 6
        return cls(SequenceLayout(parts[0], parts[1]), SequenceLayout(parts[2], parts[3]), parts[4], parts[5])


class LocalAttention(Attention):
    """Attention of each token to those less than `window` positions away.

    Args:
        positions: biases by distance.
    """

    def __init__(self, width: int, heads: int, *, window: int, positions: Positions, **options: Any) -> None:
        super().__init__(width, heads, window=window, positions=positions, **options)
        self.reach = window

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        q, k = self.positions.rotate(q, k, context)
        # Shown weights are a matrix a text.
        # Other blocks have at least 128 queries, so that short windows do not make many small calls.
        size = max(context.runs.longest, 1) if context.capture.attentions is not None else max(self.reach, 128)
        blocks = context.cached((Blocks, self.reach, size), lambda: Blocks.of(context.runs, size, self.reach))
        k, v, keys, bias = self._near(x, k, v, blocks, context)  # k, v: (rows, heads, head width)
        shown: list[list[Tensor]] | None = None if context.capture.attentions is None else []
        # (tokens, heads, head width)
        mixed = self._mix(q, k, v, AttentionMask(blocks.queries, keys), bias, context, shown)
        if context.capture.attentions is not None and shown is not None:
            context.capture.attentions.append(self._whole(shown[0], blocks, context.runs))
        return mixed

    def _near(
        self, x: Tensor, k: Tensor, v: Tensor, blocks: Blocks, context: ForwardContext
    ) -> tuple[Tensor, Tensor, SequenceLayout, Bias]:
        """Return keys and values (rows, heads, head width) of all blocks, each block's key runs, and the biases."""
        return k, v, blocks.keys, lambda block: self._bias(blocks, block, context, x.device)

    def _bias(self, blocks: Blocks, block: int, context: ForwardContext, device: torch.device) -> Tensor:
        """Return the mask bias (heads, queries, keys), lowest where a key is out of reach; inner blocks share one."""
        queries, keys = blocks.queries.lengths[block], blocks.keys.lengths[block]
        place = blocks.queries.begins[block] - blocks.keys.begins[block]  # of the first query among the keys
        return context.cached(
            (self.positions, place, queries, keys), lambda: self._weights(place, queries, keys, context, device)
        )

    def _weights(self, place: int, queries: int, keys: int, context: ForwardContext, device: torch.device) -> Tensor:
        """Compute the mask bias (heads, queries, keys) of queries from `place` on."""
        values = self.positions.near(place, queries, keys, self.reach, context, device)  # type: ignore[operator]
        # (queries, keys), key position minus query position
        ahead = torch.arange(keys, device=device) - torch.arange(place, place + queries, device=device)[:, None]
        # The lowest finite number, since minus infinity in a whole row would give NaN.
        return values.masked_fill(ahead.abs() >= self.reach, torch.finfo(values.dtype).min)

    def _whole(self, shown: list[Tensor], blocks: Blocks, runs: SequenceLayout) -> list[Tensor]:
        """Return attention weights (heads, length, length) of each sequence; an empty sequence has none."""
        empty = shown[0].new_zeros(shown[0].shape[0], 0, 0) if shown else torch.zeros(0, 0, 0)
        # One block a sequence here: (heads, length, length)
        found = {text: p[..., : runs.lengths[text]] for text, p in zip(blocks.texts, shown, strict=True)}
        return [found.get(text, empty) for text in range(len(runs))]


class TwoSidedAttention(LocalAttention):
    """Attention of each token to those less than `back` positions before it and less than `ahead` after it."""

    def __init__(self, width: int, heads: int, *, back: int, ahead: int, positions: Positions, **options: Any) -> None:
        super().__init__(width, heads, window=min(back, ahead), positions=positions, **options)
        self.back, self.ahead, self.reach = back, ahead, max(back, ahead)

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        assert self.window is not None
        if context.runs.longest <= self.window:  # all tokens see each other
            return Attention._heads(self, x, context, memory)
        return super()._heads(x, context, memory)

    def _near(
        self, x: Tensor, k: Tensor, v: Tensor, blocks: Blocks, context: ForwardContext
    ) -> tuple[Tensor, Tensor, SequenceLayout, Bias]:
        def bias(block: int) -> Tensor:
            queries, keys = blocks.queries.lengths[block], blocks.keys.lengths[block]
            place = blocks.queries.begins[block] - blocks.keys.begins[block]  # of the first query among the keys
            named = (TwoSidedAttention, self.back, self.ahead, place, queries, keys)
            return context.cached(named, lambda: self._out_of_reach(place, queries, keys, x))

        return k, v, blocks.keys, bias

    def _out_of_reach(self, place: int, queries: int, keys: int, x: Tensor) -> Tensor:
        """Return the mask bias (1, queries, keys), lowest where a key is out of reach."""
        # (queries, keys), key position minus query position
        after = torch.arange(keys, device=x.device) - torch.arange(place, place + queries, device=x.device)[:, None]
        far = (after <= -self.back) | (after >= self.ahead)
        return x.new_zeros(queries, keys).masked_fill(far, torch.finfo(x.dtype).min)[None]


class TransientGlobalAttention(LocalAttention):
    """Local attention that also sees the normalized sum of every full block of the sequence (LongT5).

    Args:
        block: tokens of a sum; what is left at a text's end counts to its last whole block.
        sums: biases by distance in blocks. norm: of the sums.
    """

    def __init__(
        self, width: int, heads: int, *, block: int, sums: BucketedBias, norm: nn.Module, **options: Any
    ) -> None:
        super().__init__(width, heads, **options)
        self.block, self.sums, self.norm = block, sums, norm

    def _near(
        self, x: Tensor, k: Tensor, v: Tensor, blocks: Blocks, context: ForwardContext
    ) -> tuple[Tensor, Tensor, SequenceLayout, Bias]:
        counts = [length // self.block for length in context.runs.lengths]  # full blocks of each sequence
        sides = SequenceLayout.packed(tuple(counts))
        total = self.norm(self._sums(x, context.runs, sides))  # (blocks of all sequences, width)
        # The sums pass the same projections as tokens: (tokens + blocks of all sequences, heads, head width).
        k, v = (torch.cat([own, self._split(side(total))]) for own, side in ((k, self.k), (v, self.v)))
        rows, lengths = [], []
        for text, begin, length in zip(blocks.texts, blocks.keys.begins, blocks.keys.lengths, strict=True):
            first = x.shape[0] + sides.begins[text]  # row of the sequence's first block sum
            rows += [torch.arange(begin, begin + length), torch.arange(first, first + counts[text])]
            lengths.append(length + counts[text])
        # (rows,): for each block its near tokens, then all block sums of its sequence
        index = torch.cat(rows).to(x.device) if rows else torch.zeros(0, dtype=torch.long, device=x.device)

        def bias(block: int) -> Tensor:
            own = self._bias(blocks, block, context, x.device)  # (heads, queries, near tokens)
            # (heads, queries, near tokens + block sums)
            return torch.cat([own, self._side(blocks, block, counts[blocks.texts[block]], x.device)], -1)

        return k[index], v[index], SequenceLayout.packed(tuple(lengths)), bias

    def _sums(self, x: Tensor, runs: SequenceLayout, sides: SequenceLayout) -> Tensor:
        """Return the sums of the tokens of each block, (blocks of all sequences, width)."""
        out = x.new_zeros(sum(sides.lengths), x.shape[1])
        spans = zip(runs.begins, runs.lengths, sides.begins, sides.lengths, strict=True)
        # Row of the sum that each token counts to; a sequence shorter than a block has none.
        parts = [self._block_of(0, length, count, x.device) + first for _, length, first, count in spans if count]
        # Rows of the tokens that count to a sum.
        held = [torch.arange(b, b + n) for b, n, c in zip(runs.begins, runs.lengths, sides.lengths, strict=True) if c]
        return out.index_add(0, torch.cat(parts), x[torch.cat(held).to(x.device)]) if parts else out

    def _block_of(self, place: int, queries: int, count: int, device: torch.device) -> Tensor:
        """Return the block of each token from `place` on, (queries,), in a sequence of `count` full blocks."""
        return (torch.arange(place, place + queries, device=device) // self.block).clamp(max=count - 1)

    def _side(self, blocks: Blocks, block: int, count: int, device: torch.device) -> Tensor:
        """Return the biases of the block sums, (heads, queries, count)."""
        queries, place = blocks.queries.lengths[block], blocks.places[block]
        if not count:
            return self.sums.table.weight.new_zeros(self.sums.table.embedding_dim, queries, 0)
        own = self._block_of(place, queries, count, device)  # (queries,)
        return self.sums.at(torch.arange(count, device=device) - own[:, None])  # (heads, queries, count)
