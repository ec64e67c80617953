"""Sparse attention in blocks, local plus global tokens; the cost grows linearly with the sequence length.

Longformer (Beltagy et al., 2020, arXiv:2004.05150), BigBird (Zaheer et al., 2020, arXiv:2007.14062).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from ..weights import Linear
from .attention import Attention
from .local import Blocks

# In `ForwardContext.extra_inputs`: (tokens,), nonzero at tokens that see all tokens and that all tokens see.
GLOBAL = "global_attention_mask"


def default_global_mask(rule: Callable[[ForwardContext], Tensor]) -> Callable[[ForwardContext], ForwardContext]:
    """Build the default global mask of a model from `rule`, for calls without a mask."""

    def adjust(context: ForwardContext) -> ForwardContext:
        return (
            context
            if GLOBAL in context.extra_inputs
            else replace(context, extra_inputs={**context.extra_inputs, GLOBAL: rule(context)})
        )

    return adjust


def first_tokens(context: ForwardContext) -> Tensor:
    """Return a mask (tokens,) of the first token of each sequence."""
    marks = torch.zeros(context.positions.shape[0], dtype=torch.bool, device=context.positions.device)
    marks[[begin for begin, length in zip(context.runs.begins, context.runs.lengths, strict=True) if length]] = True
    return marks


class GlobalLocalAttention(Attention):
    """Tokens see those at most `window // 2` positions away and global tokens; global tokens see all.

    Global tokens ask, and are answered, through projections of their own.

    Args:
        window: tokens on both sides together.
    """

    def __init__(self, width: int, heads: int, *, window: int, dropout: float = 0.0) -> None:
        super().__init__(width, heads, dropout=dropout)
        self.q_global, self.k_global, self.v_global = (Linear(width, width) for _ in range(3))
        self.reach = window // 2 + 1

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        marks = context.extra_inputs.get(GLOBAL)
        marks = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device) if marks is None else marks > 0
        # Global tokens of each sequence.
        chosen = context.cached((GLOBAL, "runs"), lambda: self._global_runs(marks, context.runs))
        whole = context.capture.attentions is not None  # shown weights are a matrix a text
        # At least 128 queries a block, so that short windows do not make many small calls.
        size = max(context.runs.longest, 1) if whole else max(self.reach, 128)
        blocks = context.cached((Blocks, self.reach, size), lambda: Blocks.of(context.runs, size, self.reach))
        # rows: (key rows of all blocks,)
        rows, keys = context.cached(
            (GLOBAL, self.reach, size), lambda: self._rows(blocks, marks.nonzero().flatten(), chosen, x.device)
        )
        shown: list[list[Tensor]] | None = [] if whole else None
        bias = self._hidden(blocks, marks, chosen, q)
        # (tokens, heads, head width)
        mixed = self._mix(q, k[rows], v[rows], AttentionMask(blocks.queries, keys), bias, context, shown)
        if context.capture.attentions is not None and shown is not None:
            context.capture.attentions.append(self._whole(shown[0], blocks, context.runs, marks))
        if not sum(chosen.lengths):  # no token is global
            return mixed
        asking = marks.nonzero().flatten()  # (global tokens,)
        asked = self._split(self.q_global(x[asking]))  # (global tokens, heads, head width)
        k, v = self._split(self.k_global(x)), self._split(self.v_global(x))  # (tokens, heads, head width) each
        # Replace the local results of global tokens: these see all tokens of their sequence.
        return mixed.index_copy(
            0, asking, self._mix(asked, k, v, AttentionMask(chosen, context.runs), None, context, None)
        )

    def _global_runs(self, marks: Tensor, runs: SequenceLayout) -> SequenceLayout:
        """Return the runs of each sequence's global tokens among all global tokens."""
        counts = [int(part.sum()) for part in marks.split(runs.lengths)]  # marks of each sequence: (length,)
        return SequenceLayout.packed(tuple(counts))

    def _rows(
        self, blocks: Blocks, marked: Tensor, chosen: SequenceLayout, device: torch.device
    ) -> tuple[Tensor, SequenceLayout]:
        """Return the key rows (rows,) of the blocks, local before global ones, and the key runs of each block."""
        parts, lengths = [], []
        for text, begin, length in zip(blocks.texts, blocks.keys.begins, blocks.keys.lengths, strict=True):
            first, count = chosen.begins[text], chosen.lengths[text]
            parts += [torch.arange(begin, begin + length, device=device), marked[first : first + count]]
            lengths.append(length + count)
        empty = torch.zeros(0, dtype=torch.long, device=device)
        return torch.cat([*parts, empty]), SequenceLayout.packed(tuple(lengths))

    def _hidden(self, blocks: Blocks, marks: Tensor, chosen: SequenceLayout, q: Tensor) -> Callable[[int], Tensor]:
        """Yield for each block a mask bias (1, queries, keys), lowest at local keys out of reach and at global keys."""
        lowest = torch.finfo(q.dtype).min

        def of(block: int) -> Tensor:
            begin, keys = blocks.keys.begins[block], blocks.keys.lengths[block]
            # Place of the first query among the keys.
            place, queries = blocks.queries.begins[block] - begin, blocks.queries.lengths[block]
            # (queries, local keys), key position minus query position
            ahead = torch.arange(keys, device=q.device) - torch.arange(place, place + queries, device=q.device)[:, None]
            # Global keys come again after the local ones.
            out = (ahead.abs() >= self.reach) | marks[begin : begin + keys]
            near = q.new_zeros(queries, keys).masked_fill(out, lowest)  # (queries, local keys)
            count = chosen.lengths[blocks.texts[block]]
            return torch.nn.functional.pad(near, (0, count))[None]  # (1, queries, local keys + global keys)

        return of

    def _whole(self, shown: list[Tensor], blocks: Blocks, runs: SequenceLayout, marks: Tensor) -> list[Tensor]:
        """Return weights (heads, length, length) of each sequence's local queries; an empty sequence has none."""
        heads = shown[0].shape[0] if shown else 1
        out = [marks.new_zeros(heads, 0, 0, dtype=torch.float32) for _ in runs.lengths]
        for text, p in zip(blocks.texts, shown, strict=True):  # p: (heads, length, length + global keys)
            begin, length = runs.begins[text], runs.lengths[text]
            places = marks[begin : begin + length].nonzero().flatten()
            # A global key's weight is in a column past the local ones; move it to the key's own column.
            out[text] = p[..., :length].index_add(2, places, p[..., length:])
        return out


class BlockSparseAttention(Attention):
    """Block-sparse attention: first and last block are global; others see neighbours and random blocks (BigBird).

    In training, the random blocks of a row are drawn once for a layer and a number of blocks. Otherwise they all are
    the first block, whose keys so count several times, as in the authors' own code. Texts of few blocks see all.

    Args:
        block: tokens of one. random: blocks drawn for a row. layer: its number, which seeds the draws.
    """

    def __init__(self, width: int, heads: int, *, block: int, random: int, layer: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.block, self.random, self.layer = block, random, layer

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        # A decoder and short sequences have no sparse pattern.
        if self.causal or context.runs.longest <= (5 + 2 * self.random) * self.block:
            return super()._heads(x, context, memory)
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        key = (BlockSparseAttention, self.block, self.random, self.layer if self.training else None)
        queries, keys, rows, weights = context.cached(key, lambda: self._plan(context.runs, x.device))
        shown: list[list[Tensor]] | None = None if context.capture.attentions is None else []
        bias = None if weights is None else lambda row: weights[row].to(q.dtype)
        # (tokens, heads, head width)
        mixed = self._mix(q, k[rows], v[rows], AttentionMask(queries, keys), bias, context, shown)
        if context.capture.attentions is not None and shown is not None:
            context.capture.attentions.append(self._whole(shown[0], context.runs, queries, keys, rows))
        return mixed

    def _plan(
        self, runs: SequenceLayout, device: torch.device
    ) -> tuple[SequenceLayout, SequenceLayout, Tensor, list[Tensor] | None]:
        """Return query runs, key runs, key rows (rows,), and the biases (1, 1, keys) of each row's scores."""
        asked, lengths, parts, added = [], [], [], []
        for begin, length in zip(runs.begins, runs.lengths, strict=True):
            count = -(-length // self.block)  # blocks, the last one perhaps shorter
            whole = length <= (5 + 2 * self.random) * self.block
            for row in [None] if whole else range(count):
                seen = range(count) if row in (None, 0, count - 1) else self._visible_blocks(row, count)
                spans = [self._span(other, length) for other in seen]
                own = [torch.arange(begin + a, begin + b) for a, b in spans]
                # (keys,) of this row of blocks
                parts.append(torch.cat([torch.zeros(0, dtype=torch.long), *own]))
                lengths.append(len(parts[-1]))
                first = torch.zeros(lengths[-1])  # (keys,)
                if not self.training and not whole and row not in (0, count - 1):
                    # A key whose score is raised by log(n) counts n times in the softmax.
                    first[: self.block] = math.log(1 + self.random)
                added.append(first[None, None].to(device))
                low, high = (0, length) if row is None else self._span(row, length)
                asked.append((begin + low, high - low))
        queries = SequenceLayout(tuple(a for a, _ in asked), tuple(n for _, n in asked))
        return (
            queries,
            SequenceLayout.packed(tuple(lengths)),
            torch.cat(parts).to(device),
            None if self.training else added,
        )

    def _span(self, block: int, length: int) -> tuple[int, int]:
        """Return the first position of a block and the position after its last."""
        return block * self.block, min((block + 1) * self.block, length)

    def _visible_blocks(self, row: int, count: int) -> list[int]:
        """Return the blocks that an inner block sees, ascending."""
        near = {0, row - 1, row, row + 1, count - 1}
        if self.training:
            # One draw for a layer and a number of blocks, so that a layer that is computed again sees the same keys.
            draw = torch.Generator().manual_seed(hash((self.layer, count, row)) % 2**31)
            far = [other for other in range(count) if other not in near]
            near |= {far[i] for i in torch.randperm(len(far), generator=draw)[: self.random].tolist()}
        return sorted(near)

    def _whole(
        self, shown: list[Tensor], runs: SequenceLayout, queries: SequenceLayout, keys: SequenceLayout, rows: Tensor
    ) -> list[Tensor]:
        """Return attention weights (heads, length, length) of each sequence."""
        heads = shown[0].shape[0]
        out = [shown[0].new_zeros(heads, length, length) for length in runs.lengths]
        texts = [text for text, begin in enumerate(runs.begins) for _ in range(runs.lengths[text])]
        for row, p in enumerate(shown):  # p: (heads, queries, keys)
            begin, length = queries.begins[row], queries.lengths[row]
            text = texts[begin]
            place = begin - runs.begins[text]
            own = rows[keys.begins[row] : keys.begins[row] + keys.lengths[row]] - runs.begins[text]  # (keys,)
            out[text][:, place : place + length, own] = p
        return out
