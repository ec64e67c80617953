"""What a pass gave; what one request asks of it is asked once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..kernels.fused import highest
from .candidates import Candidates, on_cpu
from .rules import without

NONE = -1  # in place of a token, where all are banned
MANY = 4  # different bans of one pass that are looked at for all rows


class Passed:
    """What a pass gave.

    Args:
        states: last states (tokens, width). scores: (rows, vocabulary) of what follows those that were wanted, float32.
        found: (steps, rows), what `likeliest` gives of each step's scores, the last ones' these, where that is known.
    """

    def __init__(self, states: Tensor, scores: Tensor, found: Tensor | None = None) -> None:
        self.states, self.scores, self._found = states, scores, found
        self._candidates: dict[tuple[float, ...], tuple[Tensor, Tensor] | None] = {}
        self._told: dict[tuple[int, ...], list[int]] = {}
        self._highest: dict[tuple[int, ...], list[tuple[list[float], list[int]]] | None] = {}

    def tokens(self, row: int, count: int, banned: Sequence[int] = ()) -> list[int]:
        """The likeliest token of each of `count` rows but for those that are banned; `NONE` where all are."""
        key = tuple(banned)
        known = self._told.get(key)
        if known is not None:
            return known[row : row + count]
        if len(self._told) == MANY:
            return likeliest(self.scores[row : row + count], banned).tolist()
        recorded = self.steps if not banned else []
        self._told[key] = known = recorded[-1] if recorded else likeliest(self.scores, banned).tolist()
        return known[row : row + count]

    def candidates(self, source: Candidates, banned: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """What `Candidates.find` gives, of all rows."""
        key = *source.key, *banned
        if key not in self._candidates:
            self._candidates[key] = on_cpu(source.find(self.scores, banned))
        return self._candidates[key]

    def highest(self, row: int, count: int, banned: Sequence[int]) -> tuple[list[float], list[int]] | None:
        """The highest log-probabilities of a row but for those that are banned, best first, and their tokens.

        None where no kernel finds them.
        """
        key = count, *banned
        if key not in self._highest:
            found = highest(self.scores, count, banned, normal=True)
            self._highest[key] = None if found is None else list(zip(*(x.tolist() for x in found), strict=True))
        known = self._highest[key]
        return None if known is None else known[row]

    @cached_property
    def steps(self) -> list[list[int]]:
        """The likeliest token of each row, a step each; none where that was not recorded."""
        return [] if self._found is None else self._found.tolist()


def likeliest(scores: Tensor, banned: Sequence[int] = ()) -> Tensor:
    """(rows,): the likeliest token of each row of scores (rows, vocabulary) that is not banned, `NONE` for none."""
    found = highest(scores, 1, banned)
    values, tokens = without(scores, banned).max(-1) if found is None else (x.flatten() for x in found)
    return torch.where(values == -torch.inf, NONE, tokens)
