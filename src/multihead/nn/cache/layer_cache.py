"""What one layer remembers of texts: keys and values, a state, or the last tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ...errors import InvalidInput
from ...kernels.ops import backend
from ...kernels.ragged import BLOCK, PagedLayout, SequenceLayout

if TYPE_CHECKING:
    from ..forward_context import ForwardContext


class LayerCache(Protocol):
    """One layer's share of a store."""

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache | XLNetMemory | NoLayerCache]:
        """The memories of its mixers."""


@dataclass(frozen=True)
class CachePlan:
    """Where a pass's keys and values go, and where all that it sees lie.

    Args:
        writes: rows of storage for the pass's tokens. copies: rows from and to, copied before.
        seen: rows that are gathered and where each text's are then; None in place of rows when they lie in storage so.
        paged: the blocks of storage that they lie in, for a kernel that reads these.
        fresh: nothing was remembered: the pass's own keys and values are all.
    """

    writes: Tensor | slice
    copies: tuple[Tensor, Tensor] | None
    seen: Callable[[], tuple[Tensor | None, SequenceLayout]]
    paged: Callable[[], PagedLayout]
    fresh: bool

    @cached_property
    def _seen(self) -> tuple[Tensor | None, SequenceLayout]:
        return self.seen()

    @property
    def reads(self) -> Tensor | None:
        return self._seen[0]

    @property
    def runs(self) -> SequenceLayout:
        return self._seen[1]

    @cached_property
    def pages(self) -> PagedLayout:
        return self.paged()


class NoLayerCache:
    """The memory of a part that does not say what it remembers: its texts are read whole, each time anew."""

    def leaves(self) -> Iterator[NoLayerCache]:
        yield self


def memory_of(part: nn.Module) -> LayerCache:
    """What a part says that it remembers, or `NoLayerCache`."""
    made: Any = getattr(part, "memory", None)
    return made() if callable(made) else NoLayerCache()


def given(memory: LayerCache | None) -> Any:
    """A memory as a part takes it: None for `NoLayerCache`."""
    return None if isinstance(memory, NoLayerCache) else memory


class KVLayerCache:
    """Keys and values of one attention layer, (rows, key heads, width).

    Args:
        window: how many tokens back a query sees, itself included; None for all.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.k: Tensor | None = None
        self.v: Tensor | None = None
        self._waiting: tuple[Tensor, Tensor, Tensor | slice] | None = None

    def leaves(self) -> Iterator[KVLayerCache]:
        yield self

    @property
    def size(self) -> int:
        """Bytes of a block; 0 before anything was read."""
        held = self._waiting[:2] if self._waiting is not None else (self.k, self.v)
        return sum(BLOCK * x[0].numel() * x.element_size() for x in held if x is not None and len(x))

    def extend(self, k: Tensor, v: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, SequenceLayout]:
        """All keys and values (rows, key heads, width) that may be seen, and where each text's lie."""
        plan = self.plan(context)
        if plan.fresh:
            self.wait(k, v, plan)
            return k, v, context.runs
        self.make_room(plan, context, k, v)
        assert self.k is not None
        assert self.v is not None
        self.k, self.v = put(self.k, plan.writes, k), put(self.v, plan.writes, v)
        if plan.reads is None:
            return self.k, self.v, plan.runs
        return self.k[plan.reads], self.v[plan.reads], plan.runs

    def place(
        self, q: Tensor, k: Tensor, v: Tensor, angles: tuple[Tensor, Tensor] | None, context: ForwardContext
    ) -> tuple[Tensor, Tensor, Tensor, SequenceLayout]:
        """Queries and keys turned by their angles, where there are such, and then what `extend` gives, in pages.

        For a pass that is not the first, on a GPU.
        """
        plan = self.plan(context)
        self.make_room(plan, context, k, v)
        assert self.k is not None
        assert self.v is not None
        rows = plan.writes
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=k.device)
        q = backend(q).write_pages(q, k, v, angles, self.k, self.v, rows)
        return q, self.k, self.v, plan.pages

    def wait(self, k: Tensor, v: Tensor, plan: CachePlan) -> None:
        """Remembers a first pass's keys and values; what may never be read again is not moved yet."""
        self._write()
        self._waiting = k, v, plan.writes

    def plan(self, context: ForwardContext) -> CachePlan:
        """Where this pass goes, alike for all layers with this window."""
        cache = context.cache
        assert cache is not None
        return context.cached(
            (cache, self.window), lambda: cache.plan(context.runs, self.window, context.positions.device)
        )

    def make_room(
        self, plan: CachePlan, context: ForwardContext, k: Tensor | None = None, v: Tensor | None = None
    ) -> None:
        """Storage for a pass that is not the first, and what it shares with others copied. `k`, `v`: what it is for."""
        self._write()
        cache = context.cache
        k, v = self.k if k is None else k, self.v if v is None else v
        assert cache is not None
        assert k is not None
        assert v is not None
        rows = cache.store.pools[self.window].top * BLOCK
        self.k, self.v = grown(self.k, k, rows), grown(self.v, v, rows)
        self._copy(plan.copies)

    def settle(self, rows: int, copies: tuple[Tensor, Tensor] | None) -> None:
        """Storage for so many rows, in which all that was read is, and what is shared with others copied."""
        self._write()
        if self.k is not None and self.v is not None:
            self.k, self.v = grown(self.k, self.k, rows), grown(self.v, self.v, rows)
            self._copy(copies)

    def _copy(self, copies: tuple[Tensor, Tensor] | None) -> None:
        """Copies rows from and to."""
        if copies is not None and self.k is not None and self.v is not None:
            source, target = copies
            self.k, self.v = put(self.k, target, self.k[source]), put(self.v, target, self.v[source])

    def _write(self) -> None:
        """Puts a first pass's keys and values into storage."""
        if self._waiting is None:
            return
        k, v, rows = self._waiting
        self._waiting = None
        last = rows.stop if isinstance(rows, slice) else int(rows.max()) + 1 if len(rows) else 0
        self.k, self.v = put(grown(self.k, k, last), rows, k), put(grown(self.v, v, last), rows, v)


def grown(storage: Tensor | None, like: Tensor, rows: int) -> Tensor:
    """Storage for at least so many rows; what it grows by is not touched before it is needed.

    Raises:
        InvalidInput: what is to be put there has another shape or precision, or lies on another device.
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
    more = like.new_empty(max(rows, held + held // 2), *like.shape[1:])
    if storage is not None:
        more[:held] = storage
    return more


def put(storage: Tensor, rows: Tensor | slice, values: Tensor) -> Tensor:
    """Storage with these rows; a new tensor where gradients flow into it."""
    if torch.is_grad_enabled() and (storage.requires_grad or values.requires_grad):
        storage = storage.clone()
    storage[rows] = values
    return storage


class StateLayerCache:
    """One state of a fixed size for each text, zero before its first token."""

    def __init__(self) -> None:
        self.states: Tensor | None = None

    def leaves(self) -> Iterator[StateLayerCache]:
        yield self

    @property
    def size(self) -> int:
        """Bytes of a text's state; 0 before anything was read."""
        return 0 if self.states is None else self.states[0].numel() * self.states.element_size()

    def read(self, context: ForwardContext) -> Tensor | None:
        """The states of the pass's texts, (texts, ...); None when none has read anything."""
        cache = context.cache
        assert cache is not None
        if self.states is None or not any(cache.lengths):
            return None
        self.states = grown(self.states, self.states, cache.store.most)
        states = self.states[context.cached((cache, StateLayerCache), lambda: cache.slots(context.positions.device))]
        if 0 in cache.lengths:
            new = torch.tensor([length == 0 for length in cache.lengths], device=states.device)
            states = states.masked_fill(new.view(-1, *(1,) * (states.ndim - 1)), 0)
        return states

    def write(self, context: ForwardContext, states: Tensor) -> None:
        cache = context.cache
        assert cache is not None
        slots = context.cached((cache, StateLayerCache), lambda: cache.slots(context.positions.device))
        self.states = put(grown(self.states, states, cache.store.most), slots, states)

    def copy(self, source: int, target: int) -> None:
        if self.states is None:
            return
        with torch.inference_mode(self.states.is_inference()):  # such tensors change nowhere else
            self.states = grown(self.states, self.states, target + 1)
            self.states = put(self.states, slice(target, target + 1), self.states[source : source + 1])


class XLNetMemory:
    """Keys and values of the last tokens of each text of one cache, whose texts stay as they are (XLNet's memory).

    Args:
        limit: of tokens kept of a text, None for all. share: how many of a pass's tokens are kept, from its first on.
    """

    def __init__(self, limit: int | None = None, share: int | None = None) -> None:
        self.limit, self.share = limit, share
        self.k: Tensor | None = None
        self.v: Tensor | None = None
        self.runs: SequenceLayout | None = None

    def leaves(self) -> Iterator[XLNetMemory]:
        yield self

    def extend(self, k: Tensor, v: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, SequenceLayout]:
        """All keys and values (rows, heads, width) that may be seen, and where each text's lie."""
        past = self.runs or SequenceLayout.packed((0,) * len(context.runs))
        if self.k is not None and self.v is not None:
            rows = self._spliced(past, context.runs, self.k.shape[0], k.device)
            k, v = torch.cat([self.k, k])[rows], torch.cat([self.v, v])[rows]
        runs = SequenceLayout.packed(tuple(a + b for a, b in zip(past.lengths, context.runs.lengths, strict=True)))
        self.k, self.v, self.runs = k, v, self._kept(runs, past)
        return k, v, runs

    def _spliced(self, past: SequenceLayout, new: SequenceLayout, offset: int, device: torch.device) -> Tensor:
        parts = []
        for old, held, begin, length in zip(past.begins, past.lengths, new.begins, new.lengths, strict=True):
            parts += [torch.arange(old, old + held), torch.arange(offset + begin, offset + begin + length)]
        return torch.cat(parts).to(device)

    def _kept(self, runs: SequenceLayout, past: SequenceLayout) -> SequenceLayout:
        """Where what is remembered lies within all."""
        ends = [
            begin + (length if self.share is None else min(length, held + self.share))
            for begin, length, held in zip(runs.begins, runs.lengths, past.lengths, strict=True)
        ]
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
    """The memories of two mixers in one layer."""

    def __init__(self, first: LayerCache, second: LayerCache) -> None:
        self.first, self.second = first, second

    def leaves(self) -> Iterator[KVLayerCache | StateLayerCache | XLNetMemory | NoLayerCache]:
        yield from self.first.leaves()
        yield from self.second.leaves()
