"""Scores that attributions explain: one number an input, from the scores of a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelTarget:
    """Log-odds of a label against all others: log p - log(1 - p); the number itself for a regression.

    Args:
        label: its number. function: what makes probabilities of scores: "softmax", "sigmoid" or "none".
    """

    label: int
    function: str = "softmax"

    def score(self, scores: Tensor) -> Tensor:
        """Return (inputs,) from the scores (inputs, labels)."""
        own = scores[:, self.label]
        if self.function != "softmax":
            return own
        others = [number for number in range(scores.shape[1]) if number != self.label]
        return own - scores[:, others].logsumexp(-1)


@dataclass(frozen=True)
class SpanTarget:
    """Log-probability that an answer begins, ends, or begins and ends at given tokens.

    Args:
        start, end: places of its tokens. part: "start", "end" or "span". allowed: places that may be answers.
    """

    start: int
    end: int
    part: str
    allowed: Sequence[int]

    def score(self, scores: Tensor) -> Tensor:
        """Return (inputs,) from the scores (inputs, tokens, 2)."""
        logs = scores[:, list(self.allowed)].log_softmax(1)
        first, last = (
            logs[:, list(self.allowed).index(place), side] for side, place in enumerate((self.start, self.end))
        )
        return {"start": first, "end": last, "span": first + last}[self.part]


@dataclass(frozen=True)
class TokenTarget:
    """Log-probability of the next token."""

    token: int

    def score(self, scores: Tensor) -> Tensor:
        """Return (inputs,) from the scores after the last token (inputs, vocabulary)."""
        return scores.log_softmax(-1)[:, self.token]


Target = LabelTarget | SpanTarget | TokenTarget


def places_of(mask: Sequence[bool]) -> list[int]:
    """Return the places where a mask is true."""
    return torch.tensor(mask).nonzero()[:, 0].tolist()
