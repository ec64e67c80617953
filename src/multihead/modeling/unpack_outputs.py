"""Converts between packed batches and the padded tensors that users see, beyond what `Layout` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.ragged import SequenceLayout
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout


@dataclass(frozen=True)
class PackedOutput:
    """Result of a forward pass over token lists, without padding.

    Args:
        hidden: (tokens, width). scores: the head's result, (tokens, ...) or (sequences, ...); None without a head.
        runs: begin and length of each sequence.
    """

    hidden: Tensor
    scores: Any
    runs: SequenceLayout


def pack_token_lists(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, SequenceLayout]:
    """Concatenate lists of ids to one tensor (tokens,); return it with the begin and length of each sequence."""
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.long, device=device)
    return ids, SequenceLayout.packed(tuple(map(len, texts)))


def pad_attentions(texts: list[Tensor], queries: Layout, keys: Layout | None = None) -> Tensor:
    """Pad attentions of each sequence, (heads, queries, keys), to one (batch, heads, length, length) with zeros.

    Cached keys come before those of this pass. Sequences of another length than their texts' are padded on the right.
    """
    if keys is None and any(x.shape[1] != length for x, length in zip(texts, queries.runs.lengths, strict=True)):
        layout = SequenceLayout.packed(tuple(x.shape[1] for x in texts))
        queries = Layout.of(layout.padded(texts[0].device)[1], (len(texts), layout.longest))
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


def select_columns(
    hidden: Tensor, context: ForwardContext, layout: Layout, which: int | Tensor
) -> tuple[Tensor, ForwardContext, Layout]:
    """Return the states of the last `which` columns of the padded batch, or of these columns (n,).

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
