"""Who may see whom: texts laid end to end, and the rule of a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
BLOCK = 32  # places of a block of storage


def take(values: tuple[int, ...], places: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values[place] for place in places)


@dataclass(frozen=True)
class Runs:
    """Where each text lies among rows of tokens: text i is rows `begins[i] : begins[i] + lengths[i]`.

    Host integers, so that a plan is made without asking the device.
    """

    begins: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, lengths: tuple[int, ...]) -> Runs:
        """Texts end to end, without gaps."""
        return cls(tuple(accumulate(lengths, initial=0))[:-1], lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    @cached_property
    def spacing(self) -> int | None:
        """Rows from one text's begin to the next, when all texts have one length and are evenly spaced from row 0."""
        if len(set(self.lengths)) != 1 or self.begins[0] != 0:
            return None
        steps = {after - before for before, after in pairwise(self.begins)} or {self.lengths[0]}
        return steps.pop() if len(steps) == 1 else None

    def grid(self, device: torch.device, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Row of each cell of a padded grid, and which cells are real: both (texts, width or the longest length).

        Cells without a token point at row 0.
        """
        place = torch.arange(self.longest if width is None else width, device=device)
        lengths = torch.tensor(self.lengths, device=device)[:, None]
        real = place < lengths
        rows = torch.tensor(self.begins, device=device)[:, None] + place
        return torch.where(real, rows, 0), real


@dataclass(frozen=True, eq=False)
class Pages(Runs):
    """Texts whose rows lie in blocks of storage: place p of text t is row `table[t, p // BLOCK] * BLOCK + p % BLOCK`.

    `begins` is empty. `lengths` count the places that are still remembered, which are the last ones.

    Args:
        table: (texts, blocks). counts: (texts,), places that each text has had. Both int32, on the device.
        gathered: the rows of all places that are remembered, end to end.
    """

    table: Tensor
    counts: Tensor
    gathered: Callable[[], Tensor]

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@dataclass(frozen=True)
class Sight:
    """Which keys each query of a pass sees.

    Queries are the last tokens of their text: query i of a text with Q queries and K keys stands at place K - Q + i.

    Args:
        causal: a query sees no key after its own place.
        window: a query sees keys less than this many places away; None for all.
    """

    queries: Runs
    keys: Runs
    causal: bool = False
    window: int | None = None

    def hides(self, text: int) -> bool:
        """Whether any key of a text is hidden from any of its queries."""
        queries, keys = self.queries.lengths[text], self.keys.lengths[text]
        return (self.causal and queries > 1) or (self.window is not None and keys > self.window)

    def mask(self, text: int, device: torch.device) -> Tensor | None:
        """(queries, keys), True where a query sees; None when it sees all."""
        if not self.hides(text):
            return None
        return self.once(("mask", text, device), lambda: self._mask(text, device))

    def _mask(self, text: int, device: torch.device) -> Tensor:
        queries, keys = self.queries.lengths[text], self.keys.lengths[text]
        ahead = torch.arange(keys, device=device) - torch.arange(keys - queries, keys, device=device)[:, None]
        return self._rule(ahead)

    def of(self, texts: tuple[int, ...]) -> Sight:
        """The same rule for some of the texts, whose rows stay where they are."""
        if texts not in self._parts:
            queries, keys = (
                Runs(take(runs.begins, texts), take(runs.lengths, texts)) for runs in (self.queries, self.keys)
            )
            self._parts[texts] = Sight(queries, keys, self.causal, self.window)
        return self._parts[texts]

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What layers compute of who sees whom, made when the first one asks."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @cached_property
    def _parts(self) -> dict[tuple[int, ...], Sight]:
        return {}

    @cached_property
    def _made(self) -> dict[object, Any]:
        return {}

    def query_grid(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """`Runs.grid` of the queries."""
        return self.once(("queries", device), lambda: self.queries.grid(device))

    def key_grid(self, device: torch.device, width: int) -> Tensor:
        """Rows of the keys in a grid (texts, width)."""
        return self.once(("keys", device, width), lambda: self.keys.grid(device, width)[0])

    def grid_mask(self, device: torch.device, width: int) -> Tensor:
        """(texts, 1, longest query, width), True where a query sees a key; a padded query sees the first key."""
        return self.once(("grid mask", device, width), lambda: self._grid_mask(device, width))

    def _grid_mask(self, device: torch.device, width: int) -> Tensor:
        queries = torch.tensor(self.queries.lengths, device=device)[:, None, None]
        keys = torch.tensor(self.keys.lengths, device=device)[:, None, None]
        q = torch.arange(self.queries.longest, device=device)[None, :, None]
        k = torch.arange(width, device=device)[None, None, :]
        seen = (k < keys) & self._rule(k - (keys - queries + q))
        return torch.where(q < queries, seen, k == 0)[:, None]

    def _rule(self, ahead: Tensor) -> Tensor:
        """`ahead`: how many places a key is after the query."""
        seen = torch.ones_like(ahead, dtype=torch.bool)
        if self.causal:
            seen = ahead <= 0
        if self.window is not None:
            seen = seen & (ahead.abs() < self.window)
        return seen
