"""Layer cache of summaries: one entry for every few tokens, in the blocks of these tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.ragged import BLOCK, SequenceLayout
from .layer_cache import CacheContext, CachePlan, KVLayerCache, write_rows


@dataclass(frozen=True)
class ClosedWindows:
    """The windows of `rate` tokens that are full after a pass.

    Args:
        before, after: full windows of each sequence before the pass and after it.
    """

    rate: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, rate: int, context: CacheContext) -> ClosedWindows:
        past = (0,) * len(context.runs) if context.cache is None else context.cache.lengths
        after = tuple((held + new) // rate for held, new in zip(past, context.runs.lengths, strict=True))
        return cls(rate, tuple(held // rate for held in past), after)

    @property
    def count(self) -> int:
        """Windows that the pass fills, of all sequences."""
        return sum(self.after) - sum(self.before)

    def new(self) -> list[tuple[int, int]]:
        """Return (sequence, window) of each that the pass fills."""
        pairs = enumerate(zip(self.before, self.after, strict=True))
        return [(text, window) for text, (first, end) in pairs for window in range(first, end)]


class SummaryCache(KVLayerCache):
    """Summaries of windows of tokens, (rows, 1, width) in two tensors; a window's is in the block of its last token.

    So the summaries of a sequence are shared, copied and cut back with its blocks.

    Args:
        rate: tokens of a window.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate, self.tokens_per_row = rate, math.gcd(rate, BLOCK)

    def extend_summaries(
        self, k: Tensor, v: Tensor, closed: ClosedWindows, context: CacheContext
    ) -> tuple[Tensor, Tensor, Tensor | None, SequenceLayout]:
        """Cache the summaries of the windows that a pass fills; return storage, its rows (summaries,), and a layout.

        Rows of None are all rows of storage.
        """
        plan, layout = self.plan(context), SequenceLayout.packed(closed.after)
        device = context.positions.device
        rows = context.cached((SummaryCache, self.rate, "writes"), lambda: self._writes(plan, closed, context))
        if plan.fresh:
            self._write()
            self._waiting = k, v, rows
            return k, v, None, layout
        self.make_room(plan, context, k, v)
        assert self.k is not None
        assert self.v is not None
        self.k, self.v = write_rows(self.k, rows, k), write_rows(self.v, rows, v)
        reads = context.cached((SummaryCache, self.rate, "reads"), lambda: self._reads(plan, closed, device))
        return self.k, self.v, reads, layout

    def _writes(self, plan: CachePlan, closed: ClosedWindows, context: CacheContext) -> Tensor:
        """Return the storage rows (summaries,) of the windows that the pass fills."""
        begins, past = context.runs.begins, context.cache.lengths
        # The pass's token that is a window's last.
        tokens = [begins[text] + (window + 1) * self.rate - 1 - past[text] for text, window in closed.new()]
        chosen = torch.tensor(tokens, dtype=torch.long, device=context.positions.device)
        slots = plan.writes.start + chosen if isinstance(plan.writes, slice) else plan.writes[chosen]
        return slots // self.tokens_per_row

    def _reads(self, plan: CachePlan, closed: ClosedWindows, device: torch.device) -> Tensor:
        """Return the storage rows of all summaries, (summaries,)."""
        parts = [
            torch.arange(begin + self.rate - 1, begin + count * self.rate, self.rate, device=device)
            for begin, count in zip(plan.runs.begins, closed.after, strict=True)
            if count
        ]
        slots = torch.cat([torch.zeros(0, dtype=torch.long, device=device), *parts])
        return (slots if plan.reads is None else plan.reads[slots]) // self.tokens_per_row


class WindowAndSummaryCache:
    """The caches of attention to a window of tokens and to summaries of all before.

    Args:
        near: keys of the window. open: what summaries are made of, of the tokens that later ones may need.
    """

    def __init__(self, near: KVLayerCache, open: KVLayerCache, summaries: SummaryCache) -> None:
        self.near, self.open, self.summaries = near, open, summaries

    def leaves(self) -> Iterator[KVLayerCache]:
        yield from (self.near, self.open, self.summaries)
