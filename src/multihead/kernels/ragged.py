"""Ragged batches: where the sequences lie among rows of tokens, and which keys each query sees.

Sequences lie end to end, without padding, as with `cu_seqlens` of other libraries. Starts and lengths are integers on
the host, so that attention is planned without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
BLOCK = 32  # tokens of a block of the paged KV cache


@dataclass(frozen=True)
class SequenceLayout:
    """Rows of each sequence: sequence i is rows `begins[i] : begins[i] + lengths[i]`."""

    begins: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def packed(cls, lengths: tuple[int, ...]) -> SequenceLayout:
        """Lay sequences end to end, without gaps."""
        return cls(tuple(accumulate(lengths, initial=0))[:-1], lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    @cached_property
    def stride(self) -> int | None:
        """Rows from one sequence's start to the next, if all have one length and are evenly spaced from row 0."""
        if len(set(self.lengths)) != 1 or self.begins[0] != 0:
            return None
        steps = {after - before for before, after in pairwise(self.begins)} or {self.lengths[0]}
        return steps.pop() if len(steps) == 1 else None

    def select(self, sequences: tuple[int, ...]) -> SequenceLayout:
        """Return the layout of some of the sequences, whose rows stay where they are."""
        begins, lengths = (tuple(x[i] for i in sequences) for x in (self.begins, self.lengths))
        return SequenceLayout(begins, lengths)

    def padded(self, device: torch.device, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the row of each cell of a padded batch, and which cells have a token.

        Both are (sequences, width), with the longest length where no width is given. Padding points at row 0.
        """
        position = torch.arange(self.longest if width is None else width, device=device)  # (width,)
        lengths = torch.tensor(self.lengths, device=device)[:, None]  # (sequences, 1)
        real = position < lengths  # (sequences, width)
        rows = torch.tensor(self.begins, device=device)[:, None] + position  # (sequences, width)
        return torch.where(real, rows, 0), real  # (sequences, width) each


@dataclass(frozen=True, eq=False)
class PagedLayout(SequenceLayout):
    """Sequences in blocks of a paged KV cache: position p of sequence i is in slot
    `block_table[i, p // BLOCK] * BLOCK + p % BLOCK`.

    `begins` is empty. `lengths` count the positions that are still cached, which are the last ones.

    Args:
        block_table: (sequences, blocks), int32, on the device.
        token_counts: (sequences,), positions that each sequence has had, int32, on the device.
        slots: gives the slots of all cached positions, end to end.
    """

    block_table: Tensor
    token_counts: Tensor
    slots: Callable[[], Tensor]

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclass(frozen=True)
class AttentionMask:
    """Attention mask as a rule instead of a tensor: the keys that each query sees.

    Queries are the last tokens of their sequence: query i of a sequence with Q queries and K keys has position
    K - Q + i.

    Args:
        causal: a query sees no key after its own position.
        window: a query sees keys less than this many positions away; None for all.
    """

    queries: SequenceLayout
    keys: SequenceLayout
    causal: bool = False
    window: int | None = None

    def hides(self, sequence: int) -> bool:
        """Return whether any key of a sequence is hidden from any of its queries."""
        queries, keys = self.queries.lengths[sequence], self.keys.lengths[sequence]
        return (self.causal and queries > 1) or (self.window is not None and keys > self.window)

    def dense(self, sequence: int, device: torch.device) -> Tensor | None:
        """Return a sequence's mask (queries, keys), True where a query sees a key; None where all see all."""
        if not self.hides(sequence):
            return None
        return self.cached(("dense", sequence, device), lambda: self._dense(sequence, device))

    def _dense(self, sequence: int, device: torch.device) -> Tensor:
        queries, keys = self.queries.lengths[sequence], self.keys.lengths[sequence]
        positions = torch.arange(keys - queries, keys, device=device)  # of the queries
        return self._rule(torch.arange(keys, device=device) - positions[:, None])  # (queries, keys)

    def select(self, sequences: tuple[int, ...]) -> AttentionMask:
        """Return the same rule for some of the sequences, whose rows stay where they are."""

        def make() -> AttentionMask:
            return AttentionMask(self.queries.select(sequences), self.keys.select(sequences), self.causal, self.window)

        return self.cached(("select", sequences), make)

    def cached(self, key: object, make: Callable[[], T]) -> T:
        """Return `make()`, computed once for all layers that ask with the same key."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    @cached_property
    def _cache(self) -> dict[object, Any]:
        return {}

    def padded_queries(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `SequenceLayout.padded` of the queries."""
        return self.cached(("queries", device), lambda: self.queries.padded(device))

    def padded_keys(self, device: torch.device, width: int) -> Tensor:
        """Return rows of the keys in a padded batch (sequences, width)."""
        return self.cached(("keys", device, width), lambda: self.keys.padded(device, width)[0])

    def padded_mask(self, device: torch.device, width: int) -> Tensor:
        """Return (sequences, 1, longest query, width), True where a query sees a key; padding sees the first key."""
        return self.cached(("padded", device, width), lambda: self._padded_mask(device, width))

    def _padded_mask(self, device: torch.device, width: int) -> Tensor:
        queries = torch.tensor(self.queries.lengths, device=device)[:, None, None]  # (sequences, 1, 1)
        keys = torch.tensor(self.keys.lengths, device=device)[:, None, None]  # (sequences, 1, 1)
        q = torch.arange(self.queries.longest, device=device)[None, :, None]  # (1, longest query, 1)
        k = torch.arange(width, device=device)[None, None, :]  # (1, 1, width)
        seen = (k < keys) & self._rule(k - (keys - queries + q))  # (sequences, longest query, width)
        # A row of the softmax must see something, or it would be NaN.
        # (sequences, 1, longest query, width); 1 stands for all heads
        return torch.where(q < queries, seen, k == 0)[:, None]

    def _rule(self, ahead: Tensor) -> Tensor:
        """Return where a query sees a key that is `ahead` positions after it."""
        seen = torch.ones_like(ahead, dtype=torch.bool)  # same shape as `ahead`
        if self.causal:
            seen = ahead <= 0
        if self.window is not None:
            seen = seen & (ahead.abs() < self.window)
        return seen
