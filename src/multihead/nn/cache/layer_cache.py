"""Per-layer caches: keys and values, recurrent state, or XLNet memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ...errors import InvalidInput
from ...kernels.ops import backend
from ...kernels.ragged import BLOCK, PagedLayout, SequenceLayout

T = TypeVar("T")


class CacheContext(Protocol):
    """The parts of a `ForwardContext` that caches read."""

    @property
    def cache(self) -> Any: ...
    @property
    def positions(self) -> Tensor: ...
    @property
    def runs(self) -> SequenceLayout: ...
    def cached(self, key: Hashable, compute: Callable[[], T]) -> T: ...


class LayerCache(Protocol):
    """The cache of one layer."""

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache | XLNetMemory | NoLayerCache]:
        """Yield the caches of the layer's mixers."""


@dataclass(frozen=True)
class CachePlan:
    """The rows of cache storage that a pass writes and reads.

    Args:
        writes: slot mapping of the pass's tokens. copies: source and target rows, copied before the pass writes.
        visible: computes the visible rows and their layout; None in place of rows that are contiguous in storage.
        block_tables: computes the block tables of the visible rows, for a kernel that reads paged keys.
        fresh: no sequence has cached tokens, so the pass's own keys and values are all that it sees.
    """

    writes: Tensor | slice
    copies: tuple[Tensor, Tensor] | None
    visible: Callable[[], tuple[Tensor | None, SequenceLayout]]
    block_tables: Callable[[], PagedLayout]
    fresh: bool

    @cached_property
    def _visible(self) -> tuple[Tensor | None, SequenceLayout]:
        return self.visible()

    @property
    def reads(self) -> Tensor | None:
        return self._visible[0]

    @property
    def runs(self) -> SequenceLayout:
        return self._visible[1]

    @cached_property
    def pages(self) -> PagedLayout:
        return self.block_tables()


class NoLayerCache:
    """Stands for the cache of a layer that keeps none: its sequences are read whole in each pass."""

    def leaves(self) -> Iterator[NoLayerCache]:
        yield self


class EmptyLayerCache:
    """The cache of a layer that computes each token alone, so that it has nothing to keep."""

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache | XLNetMemory | NoLayerCache]:
        yield from ()


def memory_of(part: nn.Module) -> LayerCache:
    """Return an empty cache for a layer, or `NoLayerCache` for a layer without one."""
    made: Any = getattr(part, "memory", None)
    return made() if callable(made) else NoLayerCache()


def cache_or_none(memory: LayerCache | None) -> Any:
    """Return a cache as layers take it: None for `NoLayerCache`."""
    return None if isinstance(memory, NoLayerCache) else memory


class KVLayerCache:
    """Keys and values of one attention layer, (rows, key heads, width).

    Args:
        window: tokens that a query sees, its own included; None for all.
        joint: tokens see later ones of their pass, so texts share no beginning and a prompt is read in one pass.
    """

    tokens_per_row = 1  # neighbouring tokens of a block that share a row of storage

    def __init__(self, window: int | None = None, joint: bool = False) -> None:
        self.window, self.joint = window, joint
        self.k: Tensor | None = None  # (slots, key heads, head width), the storage of all sequences
        self.v: Tensor | None = None  # (slots, key heads, value width)
        # A first pass's keys and values, and their rows.
        self._waiting: tuple[Tensor, Tensor, Tensor | slice] | None = None

    def leaves(self) -> Iterator[KVLayerCache]:
        yield self

    @property
    def size(self) -> int:
        """Bytes of a block; 0 before the first pass."""
        held = self._waiting[:2] if self._waiting is not None else (self.k, self.v)
        rows = BLOCK // self.tokens_per_row
        return sum(rows * x[0].numel() * x.element_size() for x in held if x is not None and len(x))

    def extend(self, k: Tensor, v: Tensor, context: CacheContext) -> tuple[Tensor, Tensor, SequenceLayout]:
        """Cache a pass's keys and values; return all visible ones (rows, key heads, width) and their layout."""
        plan = self.plan(context)
        # A first pass sees only its own tokens, so nothing is copied into storage yet.
        if plan.fresh:
            self.wait(k, v, plan)
            return k, v, context.runs
        self.make_room(plan, context, k, v)
        assert self.k is not None
        assert self.v is not None
        # (slots, key heads, width) each
        self.k, self.v = write_rows(self.k, plan.writes, k), write_rows(self.v, plan.writes, v)
        if plan.reads is None:  # contiguous: read in place, without a copy
            return self.k, self.v, plan.runs
        return self.k[plan.reads], self.v[plan.reads], plan.runs  # (rows, key heads, width), copies

    def place(
        self, q: Tensor, k: Tensor, v: Tensor, angles: tuple[Tensor, Tensor] | None, context: CacheContext
    ) -> tuple[Tensor, Tensor, Tensor, SequenceLayout]:
        """Rotate queries and keys, and cache keys and values, in one GPU kernel, for any pass but the first.

        Returns:
            Queries, the storage of keys and values, and its paged layout.
        """
        plan = self.plan(context)
        self.make_room(plan, context, k, v)
        assert self.k is not None
        assert self.v is not None
        rows = plan.writes
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=k.device)  # (tokens,)
        q = backend(q).write_pages(q, k, v, angles, self.k, self.v, rows)  # (tokens, heads, head width), rotated
        return q, self.k, self.v, plan.pages

    def wait(self, k: Tensor, v: Tensor, plan: CachePlan) -> None:
        """Keep a first pass's keys and values; they are copied into storage only if a second pass follows."""
        self._write()
        self._waiting = k, v, plan.writes

    def plan(self, context: CacheContext) -> CachePlan:
        """Return the pass's plan, computed once for all layers with this window."""
        cache = context.cache
        assert cache is not None
        return context.cached(
            (cache, self.window), lambda: cache.plan(context.runs, self.window, context.positions.device)
        )

    def make_room(
        self, plan: CachePlan, context: CacheContext, k: Tensor | None = None, v: Tensor | None = None
    ) -> None:
        """Grow storage for a pass after the first, and copy shared blocks. `k`, `v`: like what will be written."""
        self._write()
        cache = context.cache
        k, v = self.k if k is None else k, self.v if v is None else v
        assert cache is not None
        assert k is not None
        assert v is not None
        # slots of all blocks, reserved ones too
        rows = cache.store.pools[self.window].top * BLOCK // self.tokens_per_row
        self.k, self.v = grown(self.k, k, rows), grown(self.v, v, rows)
        self._copy(plan.copies)

    def flush(self, rows: int, copies: tuple[Tensor, Tensor] | None) -> None:
        """Write pending keys and values, grow storage to `rows`, and copy shared blocks."""
        self._write()
        if self.k is not None and self.v is not None:
            rows //= self.tokens_per_row
            self.k, self.v = grown(self.k, self.k, rows), grown(self.v, self.v, rows)
            self._copy(copies)

    def read_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of storage rows (rows,): (rows, key heads, width) each."""
        self._write()
        assert self.k is not None
        assert self.v is not None
        rows = rows // self.tokens_per_row
        return self.k[rows], self.v[rows]

    def put_rows(self, rows: Tensor, k: Tensor, v: Tensor, size: int) -> None:
        """Write keys and values into storage rows (rows,). `size`: rows that storage must have.

        Raises:
            InvalidInput: they have another shape, dtype or device than what is cached.
        """
        self._write()
        rows, size = rows // self.tokens_per_row, size // self.tokens_per_row
        self.k, self.v = write_rows(grown(self.k, k, size), rows, k), write_rows(grown(self.v, v, size), rows, v)

    def _copy(self, copies: tuple[Tensor, Tensor] | None) -> None:
        """Copy source rows to target rows."""
        if copies is not None and self.k is not None and self.v is not None:
            source, target = (rows // self.tokens_per_row for rows in copies)
            # (rows, key heads, width) each
            self.k, self.v = write_rows(self.k, target, self.k[source]), write_rows(self.v, target, self.v[source])

    def _write(self) -> None:
        """Write a first pass's pending keys and values into storage."""
        if self._waiting is None:
            return
        k, v, rows = self._waiting
        self._waiting = None
        # Rows that storage must have for this pass.
        last = rows.stop if isinstance(rows, slice) else int(rows.max()) + 1 if len(rows) else 0
        self.k, self.v = write_rows(grown(self.k, k, last), rows, k), write_rows(grown(self.v, v, last), rows, v)


def grown(storage: Tensor | None, like: Tensor, rows: int) -> Tensor:
    """Return storage with at least `rows` rows; the operating system maps new memory only when it is written.

    Raises:
        InvalidInput: the new keys or values have another shape, dtype or device.
    """
    if storage is not None and storage is not like:
        held_of, given = ((x.dtype, x.device, x.shape[1:]) for x in (storage, like))
        if held_of != given:
            raise InvalidInput(
                f"What is remembered of a token is {list(storage.shape[1:])} in {storage.dtype} on {storage.device}, "
                f"and this pass gives {list(like.shape[1:])} in {like.dtype} on {like.device}. Begin again without "
                "past_key_values."
            )
    held = 0 if storage is None else storage.shape[0]
    if storage is not None and rows <= held:
        return storage
    # Half more than before, so that copies stay rare.
    more = like.new_empty(max(rows, held + held // 2), *like.shape[1:])
    if storage is not None:
        more[:held] = storage
    return more


def write_rows(storage: Tensor, rows: Tensor | slice, values: Tensor) -> Tensor:
    """Return storage with values in these rows; a new tensor where gradients are needed."""
    if torch.is_grad_enabled() and (storage.requires_grad or values.requires_grad):
        storage = storage.clone()  # autograd needs the values from before the write
    storage[rows] = values
    return storage


class StateLayerCache:
    """Recurrent state of one layer: a slot of fixed size a sequence, zero before its first token."""

    def __init__(self) -> None:
        self.states: Tensor | None = None  # (slots, ...)

    def leaves(self) -> Iterator[StateLayerCache]:
        yield self

    @property
    def size(self) -> int:
        """Bytes of a sequence's state; 0 before the first pass."""
        return 0 if self.states is None else self.states[0].numel() * self.states.element_size()

    def read(self, context: CacheContext) -> Tensor | None:
        """Return the states of the pass's sequences, (sequences, ...); None if no sequence has cached tokens."""
        cache = context.cache
        assert cache is not None
        if self.states is None or not any(cache.lengths):
            return None
        self.states = grown(self.states, self.states, cache.store.num_slots)
        # (sequences, ...)
        states = self.states[context.cached((cache, StateLayerCache), lambda: cache.slots(context.positions.device))]
        if 0 in cache.lengths:
            # (sequences,), True where the state must be zero: a slot in second use holds an earlier sequence's state.
            new = torch.tensor([length == 0 for length in cache.lengths], device=states.device)
            states = states.masked_fill(new.view(-1, *(1,) * (states.ndim - 1)), 0)
        return states

    def in_place(self, context: CacheContext) -> tuple[Tensor, Tensor | slice] | None:
        """Return the states of all slots, (slots, ...), and the slots of the pass's sequences.

        For kernels that change states where they are. None where a sequence has no cached tokens.
        """
        cache = context.cache
        assert cache is not None
        if self.states is None or 0 in cache.lengths:
            return None
        self.states = grown(self.states, self.states, cache.store.num_slots)
        return self.states, context.cached((cache, StateLayerCache), lambda: cache.slots(context.positions.device))

    def write(self, context: CacheContext, states: Tensor) -> None:
        cache = context.cache
        assert cache is not None
        # (sequences,) or a slice, computed once for all layers
        slots = context.cached((cache, StateLayerCache), lambda: cache.slots(context.positions.device))
        self.states = write_rows(grown(self.states, states, cache.store.num_slots), slots, states)

    def copy(self, source: int, target: int) -> None:
        if self.states is None:
            return
        with torch.inference_mode(self.states.is_inference()):  # such tensors change nowhere else
            self.states = grown(self.states, self.states, target + 1)
            self.states = write_rows(self.states, slice(target, target + 1), self.states[source : source + 1])


class XLNetMemory:
    """Keys and values of each sequence's last tokens (XLNet's memory), for one fixed batch of sequences.

    Args:
        limit: tokens kept of a sequence; None for all. share: tokens kept of each pass, from its first on.
    """

    def __init__(self, limit: int | None = None, share: int | None = None) -> None:
        self.limit, self.share = limit, share
        self.k: Tensor | None = None  # (rows, heads, head width)
        self.v: Tensor | None = None
        self.runs: SequenceLayout | None = None

    def leaves(self) -> Iterator[XLNetMemory]:
        yield self

    def extend(self, k: Tensor, v: Tensor, context: CacheContext) -> tuple[Tensor, Tensor, SequenceLayout]:
        """Cache a pass's keys and values; return all visible ones (rows, heads, width) and their layout."""
        past = self.runs or SequenceLayout.packed((0,) * len(context.runs))
        if self.k is not None and self.v is not None:
            rows = self._interleave(past, context.runs, self.k.shape[0], k.device)  # (rows,)
            # Each sequence's memory comes before its new tokens: (rows, heads, head width) each.
            k, v = torch.cat([self.k, k])[rows], torch.cat([self.v, v])[rows]
        runs = SequenceLayout.packed(tuple(a + b for a, b in zip(past.lengths, context.runs.lengths, strict=True)))
        self.k, self.v, self.runs = k, v, self._retained(runs, past)  # no copy: the layout alone says what is kept
        return k, v, runs

    def _interleave(self, past: SequenceLayout, new: SequenceLayout, offset: int, device: torch.device) -> Tensor:
        """Return row indices (rows,) into old and new rows, sequence by sequence; new rows begin at `offset`."""
        parts = []
        for old, held, begin, length in zip(past.begins, past.lengths, new.begins, new.lengths, strict=True):
            parts += [torch.arange(old, old + held), torch.arange(offset + begin, offset + begin + length)]
        return torch.cat(parts).to(device)

    def _retained(self, runs: SequenceLayout, past: SequenceLayout) -> SequenceLayout:
        """Return the layout of the kept tokens within all visible ones."""
        # Row after the last kept token of each sequence.
        ends = [
            begin + (length if self.share is None else min(length, held + self.share))
            for begin, length, held in zip(runs.begins, runs.lengths, past.lengths, strict=True)
        ]
        # Of the tokens before it, the last `limit` are kept.
        firsts = [
            begin if self.limit is None else max(begin, end - self.limit)
            for begin, end in zip(runs.begins, ends, strict=True)
        ]
        return SequenceLayout(tuple(firsts), tuple(end - first for first, end in zip(firsts, ends, strict=True)))

    def select(self, texts: Sequence[int]) -> None:
        if self.runs is not None:
            begins, lengths = self.runs.begins, self.runs.lengths
            self.runs = SequenceLayout(tuple(begins[text] for text in texts), tuple(lengths[text] for text in texts))


class HybridLayerCache:
    """The caches of two mixers in one layer."""

    def __init__(self, first: LayerCache, second: LayerCache) -> None:
        self.first, self.second = first, second

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache | XLNetMemory | NoLayerCache]:
        yield from self.first.leaves()
        yield from self.second.leaves()
