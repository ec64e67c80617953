"""What a pass gave; what one request asks of it is asked once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...errors import ScoresNotFinite
from ...kernels.fused import highest
from ..logits.processors import without
from ..logits.top_candidates import Candidates, on_cpu

NONE = -1  # in place of a token, where all are banned
BROKEN = -2  # where a score is no finite number; minus infinity is one, as bans are
MANY = 4  # different things asked of one pass that are looked for in all rows


NOT_FINITE = (
    "The model's scores are no finite numbers, so no token can be chosen. Its weights are damaged, or the numbers that "
    "it computes with are too small for them: check the checkpoint, or load it with dtype='float32'."
)


class Passed:
    """What a pass gave.

    Args:
        states: last states (tokens, width). scores: (rows, vocabulary) of what follows those that were wanted, float32.
        found: (steps, rows), what `likeliest` gives of each step's scores, the last ones' these, where that is known.
    """

    def __init__(self, states: Tensor, scores: Tensor, found: Tensor | None = None) -> None:
        self.states, self.scores, self._found = states, scores, found
        self._known: dict[tuple[Any, ...], Any] = {}

    def check(self, row: int, count: int) -> None:
        """Raises ScoresNotFinite where a score of these rows is not a number, or infinite."""
        if any(self._broken[row : row + count]):
            raise ScoresNotFinite(NOT_FINITE)

    @cached_property
    def _broken(self) -> list[bool]:
        if self.steps:
            return [token == BROKEN for token in self.steps[-1]]
        return (~(self.scores.amax(-1) < torch.inf)).tolist()

    def tokens(self, row: int, count: int, banned: Sequence[int] = ()) -> list[int]:
        """The likeliest token of each of `count` rows but for those that are banned; `NONE` where all are."""
        if self.steps and not banned:
            return self.steps[-1][row : row + count]
        key = "tokens", *banned
        known, row = self._asked(key, row, count, lambda scores: likeliest(scores, banned).tolist())
        return known[row : row + count]

    def candidates(
        self, row: int, count: int, source: Candidates, banned: Sequence[int]
    ) -> tuple[Tensor, Tensor] | None:
        """What `Candidates.find` gives of `count` rows."""
        key = "candidates", source.key, *banned
        known, row = self._asked(key, row, count, lambda scores: on_cpu(source.find(scores, banned)))
        return None if known is None else (known[0][row : row + count], known[1][row : row + count])

    def highest(self, row: int, count: int, banned: Sequence[int]) -> tuple[list[float], list[int]] | None:
        """The highest log-probabilities of a row but for those that are banned, best first, and their tokens.

        None where no kernel finds them.
        """

        def find(scores: Tensor) -> list[tuple[list[float], list[int]]] | None:
            found = highest(scores, count, banned, normal=True)
            return None if found is None else list(zip(*(x.tolist() for x in found), strict=True))

        known, row = self._asked(("highest", count, *banned), row, 1, find)
        return None if known is None else known[row]

    def _asked(self, key: tuple[Any, ...], row: int, count: int, find: Callable[[Tensor], Any]) -> tuple[Any, int]:
        """What is found in scores, and the row in it that this one is.

        While few different things are asked, all rows are looked at once, for those who ask the same.
        """
        if key not in self._known:
            if len(self._known) == MANY:
                return find(self.scores[row : row + count]), 0
            self._known[key] = find(self.scores)
        return self._known[key], row

    @cached_property
    def steps(self) -> list[list[int]]:
        """The likeliest token of each row, a step each; none where that was not recorded."""
        return [] if self._found is None else self._found.tolist()


def likeliest(scores: Tensor, banned: Sequence[int] = ()) -> Tensor:
    """(rows,): the likeliest token of each row of scores (rows, vocabulary) that is not banned.

    `NONE` where all are, `BROKEN` where one is not a number or infinite.
    """
    found = highest(scores, 1, banned)
    values, tokens = without(scores, banned).max(-1) if found is None else (x.flatten() for x in found)
    return torch.where(values < torch.inf, torch.where(values == -torch.inf, NONE, tokens), BROKEN)
