"""Between the ragged core and the padded tensors that users see, for what `Layout` alone does not do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.ragged import Runs
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout


@dataclass(frozen=True)
class Ragged:
    """What a pass over unpadded texts gives.

    Args:
        hidden: (tokens, width). scores: the head's numbers, (tokens, ...) or (texts, ...); None without a head.
    """

    hidden: Tensor
    scores: Any
    runs: Runs


def flat(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Runs]:
    """Ids of all texts end to end, (tokens,), and where each lies."""
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.long, device=device)
    return ids, Runs.of(tuple(map(len, texts)))


def grid(texts: list[Tensor], queries: Layout, keys: Layout | None = None) -> Tensor:
    """Attention of each text, (heads, queries, keys), as one (batch, heads, length, length), zero at padding.

    Keys that are no tokens of this pass, but remembered, come first.
    """
    sources = keys or queries
    past = max(x.shape[2] - length for x, length in zip(texts, sources.runs.lengths, strict=True))
    shape = (queries.shape[0], texts[0].shape[0], queries.shape[1], sources.shape[1] + past)
    out = texts[0].new_zeros(shape)
    for text, scores in enumerate(texts):
        rows, columns = queries.columns(text), sources.columns(text)
        if past:
            columns = torch.cat([torch.arange(scores.shape[2] - len(columns), device=columns.device), columns + past])
        out[text][:, rows[:, None], columns] = scores
    return out


def kept(
    hidden: Tensor, context: ForwardContext, layout: Layout, which: int | Tensor
) -> tuple[Tensor, ForwardContext, Layout]:
    """States of the last `which` columns of the padded grid alone, or of these columns (n,).

    Raises:
        InvalidInput: columns that are not there.
    """
    length, device = layout.shape[1], hidden.device
    columns = torch.arange(length, device=device)[-which:] if isinstance(which, int) else which.to(device)
    if columns.ndim != 1 or (columns.numel() and not -length <= int(columns.min()) <= int(columns.max()) < length):
        raise InvalidInput(f"logits_to_keep is a number, or columns (n,) from 0 to {length - 1}.")
    numbers = torch.full((layout.shape[0] * length,), -1, device=device)
    numbers[slice(None) if layout.rows is None else layout.rows] = torch.arange(len(hidden), device=device)
    numbers = numbers.view(layout.shape)[:, columns]
    smaller = Layout.of(numbers >= 0, (layout.shape[0], len(columns)))
    tokens = numbers[numbers >= 0]
    ids = None if context.ids is None else context.ids[tokens]
    return hidden[tokens], ForwardContext(context.positions[tokens], smaller.runs, ids=ids), smaller
