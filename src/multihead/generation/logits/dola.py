"""DoLa, decoding by contrasting layers: the last layer's logits against an early layer's (Chuang et al., 2023,
arXiv:2309.03883)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InvalidInput

TOP = 0.1  # share of the highest probability below which tokens are banned
DEEP = 40  # number of layers above which only the first or last 20 are candidates


def early_layers(requested: Any, count: int, tied: bool) -> list[int]:
    """Return the candidate layers: 0 is the embeddings, i the hidden states after layer i.

    Args:
        requested: "low", "high" or numbers. count: of layers. tied: whether the head uses the token embeddings.

    Raises:
        InvalidInput: no such layers.
    """
    # with tied embeddings layer 0 gives back the token that was read, so it is no candidate
    begin = 0 if not tied else 2 if count > 2 else count // 2
    if requested == "low":
        end = count // 2 if count <= DEEP else 20
        chosen = list(range(begin, end, 2)) if begin != count // 2 else [begin]
    elif requested == "high":
        chosen = list(range(count // 2 if count <= DEEP else count - 20, count, 2))
    elif isinstance(requested, Sequence) and not isinstance(requested, str):
        chosen = [i for i in requested if isinstance(i, int) and 0 <= i < count]
    else:
        raise InvalidInput(f"dola_layers must be 'low', 'high' or numbers of layers, not {requested!r}.")
    if not chosen:
        raise InvalidInput(f"dola_layers = {requested!r} names no layer below the last of {count}.")
    return chosen


def contrast_layers(last: Tensor, early: Sequence[Tensor]) -> Tensor:
    """Return the last layer's log-probabilities (rows, vocabulary) minus those of the most different early layer."""
    mature = last.log_softmax(-1)  # (rows, vocabulary)
    distances = [divergence(mature, scores.log_softmax(-1)) for scores in early]  # (rows,) for each early layer
    furthest = torch.stack(distances).argmax(0)  # (rows,): from (early layers, rows)
    # each row reads its own early layer: (early layers, rows, vocabulary) to (rows, vocabulary)
    base = torch.stack([scores.log_softmax(-1) for scores in early])[furthest, torch.arange(len(last))]
    # an unlikely token can have a large contrast too, so it is banned
    likely = mature >= mature.amax(-1, keepdim=True) + math.log(TOP)
    return torch.where(likely, mature - base, -torch.inf)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of log-probabilities (rows, vocabulary), up to a factor: (rows,)."""
    middle = 0.5 * (one.exp() + other.exp())  # mean of the two distributions, (rows, vocabulary)
    # a mean instead of a sum: the same order of layers, as transformers has it
    parts = [F.kl_div(side, middle, reduction="none").mean(-1) for side in (one, other)]
    return 0.5 * (parts[0] + parts[1])
