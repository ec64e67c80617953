"""What layers remember of earlier passes.

A `Cache` belongs to a batch of texts and is an argument of a pass, never parked in a module. Each layer finds its own
memory in it: keys and values for attention, a cell for a recurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..kernels.sight import Runs

if TYPE_CHECKING:
    from .call import Call, Encoded

BLOCK = 64  # places by which storage grows at least


class Memory(Protocol):
    """One layer's share of a cache."""

    def select(self, texts: Tensor) -> None:
        """Keeps these texts, in this order; a text may be named twice."""

    def forget(self, lengths: tuple[int, ...]) -> None:
        """Drops what came after the first `lengths` tokens of each text."""


class KeyValues:
    """Keys and values of one attention layer, a strip of places for each text.

    The first pass is kept as it comes; storage (texts, places, key heads, width) is made when a second one arrives.
    """

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None
        self.runs: Runs | None = None

    def extend(self, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor, Runs]:
        """All keys and values (rows, key heads, width) that may be seen, and where each text's lie."""
        assert call.cache is not None
        if self.k is None or self.v is None:
            self.k, self.v, self.runs = k, v, call.runs
            return k, v, call.runs
        runs, rows = call.once(call.cache, lambda: call.cache.plan(call))  # type: ignore[union-attr]
        if self.runs != runs:
            self.k, self.v = (self._moved(x, runs) for x in (self.k, self.v))
        self.runs = runs
        self.k[rows], self.v[rows] = k, v
        return self.k, self.v, runs

    def _moved(self, old: Tensor, runs: Runs) -> Tensor:
        """The remembered rows of every text, in storage with room for `runs`."""
        assert self.runs is not None
        if self.runs.begins == runs.begins and old.shape[0] >= runs.begins[-1] + runs.lengths[-1]:
            return old
        places = runs.begins[1] - runs.begins[0] if len(runs) > 1 else room(runs.longest)
        new = old.new_empty(len(runs) * places, *old.shape[1:])
        for before, after, length in zip(self.runs.begins, runs.begins, self.runs.lengths, strict=True):
            new[after : after + length] = old[before : before + length]
        return new

    def select(self, texts: Tensor) -> None:
        if self.k is None or self.v is None or self.runs is None:
            return
        chosen = texts.tolist()
        lengths = tuple(self.runs.lengths[text] for text in chosen)
        rows = [torch.arange(self.runs.begins[t], self.runs.begins[t] + self.runs.lengths[t]) for t in chosen]
        index = torch.cat(rows).to(self.k.device)
        self.k, self.v, self.runs = self.k[index], self.v[index], Runs.of(lengths)

    def forget(self, lengths: tuple[int, ...]) -> None:
        if self.runs is not None:
            self.runs = Runs(self.runs.begins, lengths)


class Recent:
    """Keys and values of the last tokens of each text (XLNet's memory).

    Args:
        limit: of tokens kept of a text, None for all. share: how many of a pass's tokens are kept, from its first on.
    """

    def __init__(self, limit: int | None = None, share: int | None = None) -> None:
        self.limit, self.share = limit, share
        self.k: Tensor | None = None
        self.v: Tensor | None = None
        self.runs: Runs | None = None

    def extend(self, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor, Runs]:
        """All keys and values (rows, heads, width) that may be seen, and where each text's lie."""
        past = self.runs or Runs.of((0,) * len(call.runs))
        if self.k is not None and self.v is not None:
            rows = self._spliced(past, call.runs, self.k.shape[0], k.device)
            k, v = torch.cat([self.k, k])[rows], torch.cat([self.v, v])[rows]
        runs = Runs.of(tuple(a + b for a, b in zip(past.lengths, call.runs.lengths, strict=True)))
        self.k, self.v, self.runs = k, v, self._kept(runs, past)
        return k, v, runs

    def _spliced(self, past: Runs, new: Runs, offset: int, device: torch.device) -> Tensor:
        parts = []
        for old, held, begin, length in zip(past.begins, past.lengths, new.begins, new.lengths, strict=True):
            parts += [torch.arange(old, old + held), torch.arange(offset + begin, offset + begin + length)]
        return torch.cat(parts).to(device)

    def _kept(self, runs: Runs, past: Runs) -> Runs:
        """Where what is remembered lies within all."""
        ends = [
            begin + (length if self.share is None else min(length, held + self.share))
            for begin, length, held in zip(runs.begins, runs.lengths, past.lengths, strict=True)
        ]
        firsts = [
            begin if self.limit is None else max(begin, end - self.limit)
            for begin, end in zip(runs.begins, ends, strict=True)
        ]
        return Runs(tuple(firsts), tuple(end - first for first, end in zip(firsts, ends, strict=True)))

    def select(self, texts: Tensor) -> None:
        if self.runs is not None:
            chosen = texts.tolist()
            begins, lengths = self.runs.begins, self.runs.lengths
            self.runs = Runs(tuple(begins[text] for text in chosen), tuple(lengths[text] for text in chosen))

    def forget(self, lengths: tuple[int, ...]) -> None:
        raise NotImplementedError("A memory of the last tokens alone cannot go back.")


class Cell:
    """The state of a recurrence, (texts, width), None before the first token."""

    def __init__(self) -> None:
        self.state: Tensor | None = None

    def select(self, texts: Tensor) -> None:
        if self.state is not None:
            self.state = self.state.index_select(0, texts.to(self.state.device))

    def forget(self, lengths: tuple[int, ...]) -> None:
        raise NotImplementedError("A recurrence keeps its last state only and cannot go back.")


class Both:
    """The memories of two mixers in one layer."""

    def __init__(self, first: Memory, second: Memory) -> None:
        self.first, self.second = first, second

    def select(self, texts: Tensor) -> None:
        self.first.select(texts)
        self.second.select(texts)

    def forget(self, lengths: tuple[int, ...]) -> None:
        self.second.forget(lengths)
        self.first.forget(lengths)


class Cache:
    """What every layer remembers of a batch of texts.

    Args:
        layers: one memory a layer, as the stack's own `memories` makes them.
        lengths: tokens of each text that are remembered.
        encoded: the source that a decoder's cross-attention reads.
        notes: what modules compute once for all passes (biases by distance), by module.
    """

    def __init__(self, layers: Sequence[Memory], texts: int, encoded: Encoded | None = None) -> None:
        self.layers = list(layers)
        self.lengths: tuple[int, ...] = (0,) * texts
        self.encoded = encoded
        self.notes: dict[object, object] = {}
        self._places = 0

    def get_seq_length(self) -> int:
        """Tokens of the longest remembered text."""
        return max(self.lengths, default=0)

    def advance(self, runs: Runs) -> None:
        """Notes that a pass over `runs` has been remembered by every layer."""
        self.lengths = tuple(past + new for past, new in zip(self.lengths, runs.lengths, strict=True))

    def plan(self, call: Call) -> tuple[Runs, Tensor | slice]:
        """Where each text lies after this pass, and the rows that the pass's tokens go to."""
        lengths = tuple(past + new for past, new in zip(self.lengths, call.runs.lengths, strict=True))
        if max(lengths) > self._places:
            self._places = room(max(lengths))
        runs = Runs(tuple(text * self._places for text in range(len(lengths))), lengths)
        if len(lengths) == 1:
            return runs, slice(self.lengths[0], lengths[0])
        spans = zip(runs.begins, self.lengths, lengths, strict=True)
        rows = torch.cat([torch.arange(begin + past, begin + total) for begin, past, total in spans])
        return runs, rows.to(call.positions.device)

    def select(self, texts: Tensor) -> None:
        """Keeps these texts (indices), in this order: beam search reorders, finished texts leave."""
        for layer in self.layers:
            layer.select(texts)
        if self.encoded is not None:
            self.encoded = self.encoded.select(texts)
        self.lengths = tuple(self.lengths[text] for text in texts.tolist())
        self._places = 0

    def crop(self, length: int) -> None:
        """Forgets what came after the first `length` tokens of every text."""
        lengths = tuple(min(length, past) for past in self.lengths)
        for layer in self.layers:
            layer.forget(lengths)
        self.lengths = lengths


def room(length: int) -> int:
    """Places to make for a text of this length: an eighth more, in whole blocks."""
    return -(-(length + length // 8 + 1) // BLOCK) * BLOCK
