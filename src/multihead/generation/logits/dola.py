"""Decoding by contrasting layers: the last layer's scores against an early one's (Chuang et al., 2023,
arXiv:2309.03883)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InvalidInput

TOP = 0.1  # of the likeliest token's probability: tokens below it never come
DEEP = 40  # layers above which only the 20 first or last are looked at


def early_layers(asked: Any, count: int, tied: bool) -> list[int]:
    """The layers that may be contrasted: 0 is the word embeddings, i the states after layer i.

    Args:
        asked: "low", "high" or numbers. count: of layers. tied: whether scores use the word embeddings themselves.

    Raises:
        InvalidInput: no such layers.
    """
    begin = 0 if not tied else 2 if count > 2 else count // 2
    if asked == "low":
        end = count // 2 if count <= DEEP else 20
        chosen = list(range(begin, end, 2)) if begin != count // 2 else [begin]
    elif asked == "high":
        chosen = list(range(count // 2 if count <= DEEP else count - 20, count, 2))
    elif isinstance(asked, Sequence) and not isinstance(asked, str):
        chosen = [i for i in asked if isinstance(i, int) and 0 <= i < count]
    else:
        raise InvalidInput(f"dola_layers must be 'low', 'high' or numbers of layers, not {asked!r}.")
    if not chosen:
        raise InvalidInput(f"dola_layers = {asked!r} names no layer below the last of {count}.")
    return chosen


def contrast_layers(last: Tensor, early: Sequence[Tensor]) -> Tensor:
    """Scores (rows, vocabulary): the last layer's less those of the early layer that differs most from it."""
    mature = last.log_softmax(-1)
    distances = [divergence(mature, scores.log_softmax(-1)) for scores in early]
    furthest = torch.stack(distances).argmax(0)
    base = torch.stack([scores.log_softmax(-1) for scores in early])[furthest, torch.arange(len(last))]
    likely = mature >= mature.amax(-1, keepdim=True) + math.log(TOP)
    return torch.where(likely, mature - base, -torch.inf)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of log-probabilities (rows, vocabulary), up to a factor: (rows,)."""
    middle = 0.5 * (one.exp() + other.exp())
    parts = [F.kl_div(side, middle, reduction="none").mean(-1) for side in (one, other)]
    return 0.5 * (parts[0] + parts[1])
