"""What one forward pass knows of its tokens: made once, read by every layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..kernels.ragged import Runs, Sight
from ..kernels.torch.attention import Attend, fused
from .cache.store import Cache
from .ragged import ends

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """An encoder's result, which every cross-attention of a decoder reads.

    Args:
        hidden: (source tokens, width). ids: (source tokens,), for the heads that look for a token of the source.
    """

    hidden: Tensor
    runs: Runs
    ids: Tensor | None = None
    parts: tuple[Encoded, ...] = ()  # of which this one is joined
    _projected: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def joined(cls, sources: Sequence[Encoded]) -> Encoded:
        """Sources of several batches as one, in this order; those of one batch are not moved."""
        bases = {id(source.hidden): source for source in sources}
        offsets = dict(zip(bases, Runs.of(tuple(b.hidden.shape[0] for b in bases.values())).begins, strict=True))
        begins = tuple(offsets[id(s.hidden)] + begin for s in sources for begin in s.runs.begins)
        runs = Runs(begins, tuple(length for s in sources for length in s.runs.lengths))
        parts = tuple(bases.values())
        if len(parts) == 1:
            return replace(parts[0], runs=runs)
        ids = [part.ids for part in parts if part.ids is not None]
        hidden = torch.cat([part.hidden for part in parts])
        return cls(hidden, runs, torch.cat(ids) if len(ids) == len(parts) else None, parts)

    def project(self, owner: nn.Module, project: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of one cross-attention, computed on its first call only."""
        if owner not in self._projected and self.parts:
            each = [part.project(owner, project) for part in self.parts]
            self._projected[owner] = torch.cat([k for k, _ in each]), torch.cat([v for _, v in each])
        elif owner not in self._projected:
            self._projected[owner] = project(self.hidden)
        return self._projected[owner]

    def select(self, texts: Tensor) -> Encoded:
        """These texts' sources, in this order; nothing is moved."""
        begins, lengths = self.runs.begins, self.runs.lengths
        chosen = texts.tolist()
        return replace(self, runs=Runs(tuple(begins[t] for t in chosen), tuple(lengths[t] for t in chosen)))


@dataclass
class Record:
    """What a caller wants to see of a pass. An attention is a list of (heads, queries, keys), one a text."""

    hidden: list[Tensor] | None = None
    attentions: list[list[Tensor]] | None = None
    cross_attentions: list[list[Tensor]] | None = None


@dataclass(frozen=True)
class Asked:
    """Tokens whose last states alone are asked for, text by text.

    Args:
        rows: (tokens asked for,), in order. runs: how many of each text.
    """

    rows: Tensor
    runs: Runs

    @classmethod
    def firsts(cls, runs: Runs, device: torch.device) -> Asked:
        """Each text's first token; no text may be empty."""
        return cls(torch.tensor(runs.begins, device=device), Runs.of((1,) * len(runs)))


@dataclass(frozen=True)
class Call:
    """One forward pass over texts laid end to end.

    Args:
        positions: (tokens,), what position embeddings and rotations read: each token's place in its own text, unless
            the caller gave other numbers. Who sees whom follows from `runs`, `cache` and a layer's rule alone.
        runs: where each text begins and how long it is.
        placed: whether a caller gave the positions.
        segments: (tokens,), token types, for the models that have them.
        ids: (tokens,), for the layers that look for a word; None where vectors were given instead.
        given: a family's own inputs, by name, as its `Architecture.inputs` packed them.
        encoded: the source that cross-attention reads.
        cache: what layers remember of earlier passes; None for nothing.
        attend: the backend that computes attention.
        asked: what a stack that `narrows` gives states of, instead of all tokens.
    """

    positions: Tensor
    runs: Runs
    segments: Tensor | None = None
    ids: Tensor | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    encoded: Encoded | None = None
    cache: Cache | None = None
    attend: Attend = fused
    record: Record = field(default_factory=Record)
    asked: Asked | None = None
    placed: bool = False
    _once: dict[Hashable, object] = field(default_factory=dict, repr=False)

    def once(self, owner: Hashable, compute: Callable[[], T]) -> T:
        """`compute()`, shared by all layers that ask for the same owner's result."""
        if owner not in self._once:
            self._once[owner] = compute()
        return self._once[owner]  # type: ignore[return-value]

    @property
    def totals(self) -> tuple[int, ...]:
        """Tokens of each text when all of it that is known is read, or its last position and one where these are given.

        What a pass leaves to the next one is counted: how a text is turned must not depend on how it is cut.
        """
        if self.cache is not None:
            return self.cache.totals(self.runs)
        return self.once("totals", lambda: ends(self.positions, self.runs)) if self.placed else self.runs.lengths

    @property
    def pages(self) -> bool:
        """Whether the backend can read keys where they lie in pages."""
        return self.attend is fused and self.record.attentions is None

    def apart(self) -> Call:
        """The same pass for a layer that is computed twice: what it computes to share stays its own."""
        encoded = None if self.encoded is None else replace(self.encoded, _projected={})
        return replace(self, encoded=encoded, _once=dict(self._once))

    def sight(self, keys: Runs, *, causal: bool, window: int | None) -> Sight:
        """Who sees whom under a layer's rule; layers with one rule share one."""
        return self.once((keys, causal, window), lambda: Sight(self.runs, keys, causal, window))
