"""Fit a calibration on labeled rows, and measure how well scores are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..errors import InvalidInput
from .calibration import Calibration

BINS = 15
LEAST, MOST = 0.01, 100.0  # temperatures: on separable rows the best one is 0, on meaningless ones infinite
STEPS = 200


def fit_temperature(
    logits: Tensor,
    targets: Tensor,
    labels: Sequence[str],
    *,
    bias: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Calibration:
    """Fit the temperature, and with `bias` a bias of each label, that give the targets the greatest likelihood.

    A temperature changes no best label; biases may. The rows must be others than those that the model was trained on.

    Args:
        logits: (rows, labels). targets: (rows,) numbers of labels; or (rows, labels) of 0 and 1 if a row may have
            several labels.
        labels: names. facts: kept with the calibration, beside the rows and the errors before and after.

    Raises:
        InvalidInput: shapes that do not fit, fewer than two rows for each label, or rows of one label alone.
    """
    logits, multi = logits.detach().double().cpu(), targets.ndim == 2
    targets = targets.cpu()
    _check(logits, targets, labels)

    def loss(scaled: Tensor) -> Tensor:
        if multi:
            return binary_cross_entropy_with_logits(scaled, targets.double())
        return cross_entropy(scaled, targets.long())

    position = torch.zeros((), dtype=torch.float64, requires_grad=True)  # of the temperature between its bounds
    shift = torch.zeros(len(labels), dtype=torch.float64, requires_grad=bias)
    wanted = [position, shift] if bias else [position]
    optimizer = torch.optim.LBFGS(wanted, max_iter=STEPS, line_search_fn="strong_wolfe")

    def step() -> float:
        optimizer.zero_grad()
        value = loss(logits / _temperature(position) + shift)
        value.backward()
        return float(value.detach())

    optimizer.step(step)
    temperature = _temperature(position.detach()).item()
    offsets = shift.detach() if multi else shift.detach() - shift.detach().mean()
    biases = dict(zip(labels, offsets.tolist(), strict=True)) if bias else {}
    fitted = Calibration(temperature, biases)
    before, after = (_error(scores, targets) for scores in (logits, fitted.apply(logits, labels)))
    known = {"rows": len(logits), "ece_before": round(before, 4), "ece_after": round(after, 4), **(facts or {})}
    return Calibration(temperature, biases, facts=known)


def _temperature(position: Tensor) -> Tensor:
    """Return a temperature from `LEAST` to `MOST`; 1 for the position 0. Bounds keep biases fitted to it."""
    return LEAST * (MOST / LEAST) ** position.sigmoid()


def fit_thresholds(
    probabilities: Tensor, targets: Tensor, labels: Sequence[str], *, precision: float = 0.9
) -> dict[str, float]:
    """Fit the threshold of each label.

    For rows of one label: the least threshold at which so large a part of the answers with the label is right, counted
    over every larger score (selective classification; Geifman and El-Yaniv, 2017, arXiv:1705.08500). A label that never
    reaches this precision gets the threshold 1. For rows of several labels: the threshold of the best F1.

    Args:
        probabilities: (rows, labels), calibrated. targets: as in `fit_temperature`. precision: from 0 to 1.

    Raises:
        InvalidInput: as `fit_temperature`; a precision out of range.
    """
    if not 0 < precision <= 1:
        raise InvalidInput(f"precision is a number above 0 and at most 1, not {precision!r}.")
    _check(probabilities, targets, labels)
    best = probabilities.argmax(-1)
    thresholds = {}
    for number, label in enumerate(labels):
        rows = slice(None) if targets.ndim == 2 else best == number
        scores, order = probabilities[rows, number].sort(descending=True, stable=True)
        right = targets[rows, number].bool() if targets.ndim == 2 else targets[rows] == number
        hits = right[order].cumsum(0)
        counts = torch.arange(1, len(scores) + 1)
        # a threshold takes all rows with its score
        last = torch.cat([scores[1:] < scores[:-1], torch.ones(min(len(scores), 1), dtype=torch.bool)])
        if targets.ndim == 2:
            f1 = torch.where(last, 2 * hits / (counts + right.sum()), -1.0)
            thresholds[label] = scores[int(f1.argmax())].item() if right.any() else 1.0
        else:
            enough = (last & (hits / counts >= precision)).nonzero()[:, 0].tolist()
            thresholds[label] = scores[enough[-1]].item() if enough else 1.0
    return thresholds


def expected_calibration_error(confidences: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width (arXiv:1706.04599, eq. 3).

    Args:
        confidences: (rows,) probabilities of the answers. correct: (rows,) whether the answers are right.
    """
    edges = (confidences.double() * bins).ceil().clamp(1, bins).long() - 1  # bins are open on the left
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, edges, confidences.double() - correct.double())
    return gaps.abs().sum().item() / max(len(confidences), 1)


def _error(logits: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error of logits; of all single decisions if rows have several labels."""
    if targets.ndim == 2:
        chosen = logits.sigmoid().flatten()
        return expected_calibration_error(chosen.maximum(1 - chosen), (chosen > 0.5) == targets.bool().flatten())
    values, best = logits.softmax(-1).max(-1)
    return expected_calibration_error(values, best == targets)


def _check(scores: Tensor, targets: Tensor, labels: Sequence[str]) -> None:
    """Raise InvalidInput if scores, targets and labels do not fit each other or are too few."""
    if scores.ndim != 2 or scores.shape[1] != len(labels) or len(targets) != len(scores):
        raise InvalidInput(
            f"A calibration needs scores (rows, {len(labels)}) and as many targets; the shapes are "
            f"{list(scores.shape)} and {list(targets.shape)}."
        )
    if targets.ndim == 2 and targets.shape != scores.shape:
        raise InvalidInput(f"Targets of several labels have the shape {list(scores.shape)}, not {list(targets.shape)}.")
    if len(scores) < 2 * len(labels):
        raise InvalidInput(f"A calibration of {len(labels)} labels needs {2 * len(labels)} rows or more.")
    if targets.ndim == 1 and not (int(targets.min()) >= 0 and int(targets.max()) < len(labels)):
        raise InvalidInput(f"Targets are numbers of labels from 0 to {len(labels) - 1}.")
    if len(targets.unique()) < 2:
        raise InvalidInput("A calibration needs rows of two labels or more; all rows have the same.")
