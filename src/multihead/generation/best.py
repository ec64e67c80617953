"""The likeliest token of each row of a pass, asked for once for all of them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..kernels.fused import highest

NONE = -1  # in place of a token, where all are banned


class Best:
    """The likeliest tokens of a pass; what the first one asks for comes for all rows.

    Args:
        scores: (rows, vocabulary). found: what `likeliest` gives of them, where that is known.
    """

    def __init__(self, scores: Tensor, found: Tensor | None = None) -> None:
        self._scores, self._found = scores, found

    @cached_property
    def tokens(self) -> list[int]:
        """A token a row, `NONE` where all are banned."""
        return (likeliest(self._scores) if self._found is None else self._found).tolist()


def likeliest(scores: Tensor) -> Tensor:
    """(rows,): the likeliest token of each row of scores (rows, vocabulary)."""
    found = highest(scores, 1)
    values, tokens = scores.max(-1) if found is None else (x.flatten() for x in found)
    return torch.where(values == -torch.inf, NONE, tokens)
