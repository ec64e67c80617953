"""Losses as sums over a ragged batch, beside which a count stands: so parts of a batch add up to the whole exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...heads.losses import IGNORED
from ...kernels.ragged import SequenceLayout

CHUNK = 1 << 26  # scores (words x vocabulary) that are held at once in float32: a quarter of a GiB

Score = Callable[[Tensor], Tensor]  # states (rows, width) -> scores (rows, vocabulary)


def cross_entropy(scores: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum of cross-entropies of scores (rows, classes) at labels (rows,), in float32; label -100 is left out."""
    found = exact(scores)
    return F.cross_entropy(found, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)


def exact(scores: Tensor) -> Tensor:
    """Scores in float32, or in float64 where they are."""
    return scores if scores.dtype == torch.float64 else scores.float()


def scored(
    score: Score, states: Tensor, labels: Tensor, parameters: Sequence[Tensor], smoothing: float = 0.0,
    classes: int = 0, chunk: int = CHUNK,
) -> Tensor:  # fmt: skip
    """`cross_entropy(score(states), labels)` that never holds the scores of more than `chunk` numbers.

    Args:
        parameters: all that `score` reads and that learns. classes: width of the scores.
    """
    rows = max(chunk // max(classes, 1), 1)
    if states.shape[0] <= rows:
        return cross_entropy(score(states), labels, smoothing)
    if not torch.is_grad_enabled():
        parts = zip(states.split(rows), labels.split(rows), strict=True)
        return torch.stack([cross_entropy(score(x), y, smoothing) for x, y in parts]).sum()
    found: Tensor = _Chunked.apply(score, labels, smoothing, rows, states, *parameters)
    return found


class _Chunked(torch.autograd.Function):
    """Gradients are computed chunk by chunk while the loss is, so that no chunk's scores outlive it.

    The loss is a sum, so its gradient is a multiple of what is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, score: Score, labels: Tensor, smoothing: float, rows: int, states: Tensor, *parameters: Tensor
    ) -> Tensor:
        learning = [p for p in parameters if p.requires_grad]
        kept = [torch.zeros_like(p) for p in learning]
        total, moved = exact(states.new_zeros(())), torch.empty_like(states)
        for begin in range(0, states.shape[0], rows):
            part = states[begin : begin + rows].detach().requires_grad_()
            with torch.enable_grad():
                loss = cross_entropy(score(part), labels[begin : begin + rows], smoothing)
            found = torch.autograd.grad(loss, [part, *learning], allow_unused=True)
            moved[begin : begin + rows] = found[0]
            for whole, new in zip(kept, found[1:], strict=True):
                if new is not None:
                    whole += new
            total += loss.detach()
        ctx.learning = [p.requires_grad for p in parameters]
        ctx.save_for_backward(moved, *kept)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        moved, *kept = ctx.saved_tensors
        parts = iter(kept)
        own = [next(parts) * gradients[0].to(moved.dtype) if learns else None for learns in ctx.learning]
        return (None, None, None, None, moved * gradients[0].to(moved.dtype), *own)


def regression(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum of squared errors."""
    found = exact(scores.reshape(labels.shape))
    return F.mse_loss(found, labels.to(found.dtype), reduction="sum")


def several(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum of binary cross-entropies of scores (texts, labels), for texts of several labels."""
    found = exact(scores)
    return F.binary_cross_entropy_with_logits(found, labels.to(found.dtype), reduction="sum")


def spans(scores: Tensor, runs: SequenceLayout, starts: Tensor, ends: Tensor) -> Tensor:
    """Sum over texts of the mean cross-entropy of an answer's first and last token; scores are (tokens, 2).

    A label at or past its text's length stands for an answer outside and is left out.
    """
    grid, real = runs.padded(scores.device)
    both = exact(scores)[grid].masked_fill(~real[..., None], float("-inf"))  # (texts, longest, 2)
    lengths = torch.tensor(runs.lengths, device=scores.device)
    first, last = (
        cross_entropy(both[..., side], labels.clamp(min=0).masked_fill(labels >= lengths, IGNORED))
        for side, labels in ((0, starts), (1, ends))
    )
    return (first + last) / 2


def sequence_scores(score: Score, states: Tensor, labels: Tensor, runs: SequenceLayout) -> Tensor:
    """(texts,): the log-probability of each text's labeled tokens, states (tokens, width) and labels (tokens,).

    A label is what the state at its own row predicts.
    """
    real = (labels != IGNORED).nonzero()[:, 0]
    scores = exact(score(states.index_select(0, real)))
    found = -F.cross_entropy(scores, labels.index_select(0, real), reduction="none")
    lengths = torch.tensor(runs.lengths, device=states.device)
    text = torch.repeat_interleave(torch.arange(len(runs), device=states.device), lengths)
    return found.new_zeros(len(runs)).index_add(0, text.index_select(0, real), found)
