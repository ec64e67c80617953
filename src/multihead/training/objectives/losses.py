"""Losses as sums over a packed batch, so that the losses of parts of a batch add up to the loss of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...heads.losses import IGNORED
from ...kernels.ragged import SequenceLayout

CHUNK = 1 << 26  # scores (tokens x vocabulary) in memory at once: a quarter of a GiB in float32

ScoreFunction = Callable[[Tensor], Tensor]  # hidden states (rows, width) -> logits (rows, vocabulary)


def cross_entropy(scores: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the sum of cross-entropies of scores (rows, classes) at labels (rows,), in float32; -100 is ignored."""
    scores = as_float(scores)
    return F.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)


def as_float(scores: Tensor) -> Tensor:
    """Return scores in float32, or unchanged in float64."""
    return scores if scores.dtype == torch.float64 else scores.float()


def chunked_cross_entropy(
    score: ScoreFunction, states: Tensor, labels: Tensor, parameters: Sequence[Tensor], smoothing: float = 0.0,
    classes: int = 0, chunk: int = CHUNK,
) -> Tensor:  # fmt: skip
    """Return `cross_entropy(score(states), labels)`, with at most `chunk` scores in memory at once.

    Args:
        parameters: trainable parameters that `score` reads. classes: width of the scores.
    """
    rows = max(chunk // max(classes, 1), 1)
    if states.shape[0] <= rows:
        return cross_entropy(score(states), labels, smoothing)
    if not torch.is_grad_enabled():
        parts = zip(states.split(rows), labels.split(rows), strict=True)
        return torch.stack([cross_entropy(score(x), y, smoothing) for x, y in parts]).sum()
    loss: Tensor = _ChunkedCrossEntropy.apply(score, labels, smoothing, rows, states, *parameters)
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes gradients chunk by chunk in the forward pass, so that the scores of a chunk are freed at once.

    The loss is a sum, so the backward pass only scales the saved gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, score: ScoreFunction, labels: Tensor, smoothing: float, rows: int, states: Tensor, *parameters: Tensor
    ) -> Tensor:
        learning = [p for p in parameters if p.requires_grad]
        gradients = [torch.zeros_like(p) for p in learning]
        total, state_gradient = as_float(states.new_zeros(())), torch.empty_like(states)
        for begin in range(0, states.shape[0], rows):
            part = states[begin : begin + rows].detach().requires_grad_()
            with torch.enable_grad():
                loss = cross_entropy(score(part), labels[begin : begin + rows], smoothing)
            new = torch.autograd.grad(loss, [part, *learning], allow_unused=True)
            state_gradient[begin : begin + rows] = new[0]
            for gradient, more in zip(gradients, new[1:], strict=True):
                if more is not None:
                    gradient += more
            total += loss.detach()
        ctx.trainable = [p.requires_grad for p in parameters]
        ctx.save_for_backward(state_gradient, *gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        state_gradient, *gradients = ctx.saved_tensors
        factor, parts = outputs[0].to(state_gradient.dtype), iter(gradients)
        own = [next(parts) * factor if needed else None for needed in ctx.trainable]
        return (None, None, None, None, state_gradient * factor, *own)


def regression(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of squared errors."""
    scores = as_float(scores.reshape(labels.shape))
    return F.mse_loss(scores, labels.to(scores.dtype), reduction="sum")


def binary_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of binary cross-entropies of multi-label scores (sequences, labels)."""
    scores = as_float(scores)
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="sum")


def span_loss(scores: Tensor, runs: SequenceLayout, starts: Tensor, ends: Tensor) -> Tensor:
    """Return the sum over sequences of the mean cross-entropy of start and end token; scores are (tokens, 2).

    A label at or past the length of its sequence means an answer outside of it and is ignored.
    """
    grid, real = runs.padded(scores.device)
    both = as_float(scores)[grid].masked_fill(~real[..., None], float("-inf"))  # (sequences, longest, 2)
    lengths = torch.tensor(runs.lengths, device=scores.device)
    first, last = (
        cross_entropy(both[..., side], labels.clamp(min=0).masked_fill(labels >= lengths, IGNORED))
        for side, labels in ((0, starts), (1, ends))
    )
    return (first + last) / 2


def sequence_log_probs(score: ScoreFunction, states: Tensor, labels: Tensor, runs: SequenceLayout) -> Tensor:
    """Return the summed log-probability of the labels of each sequence (sequences,).

    Args:
        states: (tokens, width). labels: (tokens,), the token that the state of the same row predicts; -100 is ignored.
    """
    real = (labels != IGNORED).nonzero()[:, 0]
    scores = as_float(score(states.index_select(0, real)))
    log_probs = -F.cross_entropy(scores, labels.index_select(0, real), reduction="none")
    lengths = torch.tensor(runs.lengths, device=states.device)
    sequence = torch.repeat_interleave(torch.arange(len(runs), device=states.device), lengths)
    return log_probs.new_zeros(len(runs)).index_add(0, sequence.index_select(0, real), log_probs)
