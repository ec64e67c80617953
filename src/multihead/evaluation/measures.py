"""Measures of rows that can be computed for any weights of the rows, so that resamples and slices cost little.

A measure has a value for weights (resamples, rows). Weights of 1 give the value on the rows themselves, which equals
that of `training.metrics`; weights of 0 and 1 give a slice; numbers of draws give a bootstrap resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
UNIT = (0.0, 1.0)
BINS = 15  # of a reliability diagram (Guo et al., 2017, arXiv:1706.04599)


@dataclass(frozen=True)
class Measure:
    """Base of all measures.

    Args:
        name: of the metric. scale: factor of a share, 100 for metrics in percent. bounds: smallest and largest value.
    """

    name: str
    scale: float = 1.0
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def values(self, weights: Array) -> Array:
        """Return the value for each line of weights (resamples, rows); NaN where it is undefined."""
        raise NotImplementedError

    @property
    def share(self) -> bool:
        """True if the value is a share of rows."""
        return False

    def count(self, rows: NDArray[np.int64]) -> int:
        """Return the number of these rows that count."""
        return len(rows)


@dataclass(frozen=True)
class Mean(Measure):
    """Mean of a number a row (rows,). Rows with NaN do not count."""

    rows: Any = None

    @property
    def share(self) -> bool:
        """True if every number is 0 or 1."""
        known = self.rows[~np.isnan(self.rows)]
        return bool(np.isin(known, (0.0, 1.0)).all())

    def values(self, weights: Array) -> Array:
        known = ~np.isnan(self.rows)
        total = weights @ np.where(known, self.rows, 0.0)
        return self.scale * divide(total, weights @ known.astype(float))

    def count(self, rows: NDArray[np.int64]) -> int:
        return int((~np.isnan(self.rows[rows])).sum())


@dataclass(frozen=True)
class OfSums(Measure):
    """Function of sums over rows, such as F1 of counts.

    Args:
        statistics: (rows, k), what each row adds. function: takes sums (resamples, k), returns values (resamples,).
    """

    statistics: Any = None
    function: Callable[[Array], Array] = lambda sums: sums[:, 0]

    def values(self, weights: Array) -> Array:
        return self.scale * self.function(weights @ self.statistics)


@dataclass(frozen=True)
class CalibrationError(OfSums):
    """Expected calibration error (Guo et al., 2017). Noise in its bins makes it too large, on resamples even more.

    Args:
        confidence: (rows,), NaN for rows that do not count.
    """

    confidence: Any = None

    def when_calibrated(self, rows: NDArray[np.int64], draws: int, seed: int) -> Array:
        """Return the error of models that are right with the probability that they say (Bröcker and Smith, 2007).

        Returns:
            (draws,), errors of simulated right answers to the rows.
        """
        own = rows[~np.isnan(self.confidence[rows])]
        sure, bins = self.confidence[own], self.statistics[own][:, : self.statistics.shape[1] // 3]
        random, found = np.random.default_rng(seed), np.zeros(draws)
        for place in range(draws):
            gaps = ((random.random(len(own)) < sure) - sure) @ bins
            found[place] = np.abs(gaps).sum() / max(len(own), 1)
        return found


@dataclass(frozen=True)
class Auroc(Measure):
    """Area under the ROC curve, ties counting half: (rows,) scores and whether each row is positive.

    Rows whose score is NaN do not count.
    """

    scores: Any = None
    positive: Any = None

    def values(self, weights: Array) -> Array:
        known = ~np.isnan(self.scores)
        groups, place = np.unique(self.scores[known], return_inverse=True)
        own, hit = weights[:, known], self.positive[known].astype(bool)
        positives, negatives = (sum_by(own * side, place, len(groups)) for side in (hit, ~hit))
        below = negatives.cumsum(1) - negatives
        won = (positives * (below + negatives / 2)).sum(1)
        return self.scale * divide(won, positives.sum(1) * negatives.sum(1))


@dataclass(frozen=True)
class MeanOf(Measure):
    """Mean of several measures, over those that are defined."""

    parts: tuple[Measure, ...] = ()

    def values(self, weights: Array) -> Array:
        every = np.stack([part.values(weights) for part in self.parts])
        known = ~np.isnan(every)
        return self.scale * divide(np.where(known, every, 0).sum(0), known.sum(0).astype(float))


@dataclass(frozen=True)
class Correlation(Measure):
    """Pearson's correlation of two numbers a row, or Spearman's, which is that of their ranks.

    Args:
        first, second: (rows,); rows with NaN do not count. ranks: Spearman's.
    """

    first: Any = None
    second: Any = None
    ranks: bool = False

    def values(self, weights: Array) -> Array:
        known = ~(np.isnan(self.first) | np.isnan(self.second))
        own, pair = weights[:, known], (self.first[known], self.second[known])
        x, y = (weighted_ranks(side, own) if self.ranks else np.broadcast_to(side, own.shape) for side in pair)
        total = own.sum(1, keepdims=True)
        x, y = (side - divide((own * side).sum(1, keepdims=True), total) for side in (x, y))
        spread = np.sqrt((own * x * x).sum(1) * (own * y * y).sum(1))
        spread[spread < 1e-12 * np.maximum(own.sum(1), 1)] = 0.0  # a constant has no correlation
        return self.scale * divide((own * x * y).sum(1), spread)


def weighted_ranks(values: Array, weights: Array) -> Array:
    """Return the mean rank of each value (rows,) where each row occurs `weights` (resamples, rows) times."""
    groups, place = np.unique(values, return_inverse=True)
    sizes = sum_by(weights, place, len(groups))
    ranks = sizes.cumsum(1) - sizes + (sizes + 1) / 2
    return ranks[:, place]


def sum_by(values: Array, place: NDArray[np.int64], count: int) -> Array:
    """Return sums of columns (resamples, rows) by their group: (resamples, count)."""
    order = np.argsort(place, kind="stable")
    begins = np.searchsorted(place[order], np.arange(count))
    return np.add.reduceat(values[:, order].astype(float), begins, axis=1) if count else np.zeros((len(values), 0))


def divide(over: Array, under: Array) -> Array:
    """Return the quotient, NaN where the divisor is 0."""
    return np.divide(over, under, out=np.full(np.broadcast(over, under).shape, np.nan), where=under != 0)


def one_hot(numbers: NDArray[np.int64], count: int) -> Array:
    """Return (rows, count) with a 1 at each number; no 1 for a number outside 0..count - 1."""
    table: Array = (numbers[:, None] == np.arange(count)).astype(float)
    return table


def label_measures(predicted: NDArray[np.int64], expected: NDArray[np.int64], count: int) -> list[Measure]:
    """Return accuracy, macro F1 and Matthews' correlation of one label a row.

    Args:
        predicted: label numbers (rows,), -1 for a row without an answer, which is wrong. expected: (rows,).
        count: number of labels.
    """
    given, right = one_hot(predicted, count + 1), one_hot(expected, count + 1)
    given[:, count] = predicted < 0  # no answer is a label that no row has
    statistics = np.concatenate([given * right, given, right], axis=1)
    correct = (predicted == expected).astype(float)
    return [
        Mean("accuracy", bounds=UNIT, rows=correct),
        OfSums("f1_macro", bounds=UNIT, statistics=statistics, function=macro_f1),
        OfSums("matthews_correlation", bounds=(-1.0, 1.0), statistics=statistics, function=matthews),
    ]


def macro_f1(sums: Array) -> Array:
    """Return the mean F1 of labels from (resamples, 3 x labels): hits, predictions, references of each label.

    A label that neither side has is left out, as scikit-learn does. The last label, no answer, is none.
    """
    hits, given, right = np.split(sums, 3, axis=1)
    used = (given + right > 0)[:, :-1]
    each = np.where(used, divide(2 * hits, given + right)[:, :-1], 0.0)
    return divide(each.sum(1), used.sum(1).astype(float))


def micro_f1(sums: Array) -> Array:
    """Return F1 of all labels together, from (resamples, 3 x labels); 0 where there is none (seqeval, scikit-learn)."""
    hits, given, right = (each.sum(1) for each in np.split(sums, 3, axis=1))
    return np.nan_to_num(divide(2 * hits, given + right))


def all_macro_f1(sums: Array) -> Array:
    """Return the mean F1 of all labels, of which one that neither side has counts 0 (multi-label classification)."""
    hits, given, right = np.split(sums, 3, axis=1)
    return np.nan_to_num(divide(2 * hits, given + right)).mean(1)


def matthews(sums: Array) -> Array:
    """Return Matthews' correlation for any number of labels (Gorodkin, 2004); 0 if one side is constant."""
    hits, given, right = np.split(sums, 3, axis=1)
    total = right.sum(1)
    covariance = hits.sum(1) * total - (given * right).sum(1)
    spread = np.sqrt((total**2 - (given**2).sum(1)) * (total**2 - (right**2).sum(1)))
    return np.nan_to_num(divide(covariance, spread))


def calibration_statistics(confidence: Array, correct: Array, bins: int = BINS) -> Array:
    """Return what each row adds to the bins of a reliability diagram: count, confidence, correct; (rows, 3 x bins).

    Args:
        confidence: (rows,), from 0 to 1; NaN for rows that do not count. correct: (rows,), 0 or 1.
    """
    known = ~np.isnan(confidence)
    place = np.clip(np.ceil(np.nan_to_num(confidence) * bins) - 1, 0, bins - 1).astype(int)
    table = one_hot(place, bins) * known[:, None]
    filled = np.nan_to_num(confidence)[:, None]
    return np.concatenate([table, table * filled, table * np.nan_to_num(correct)[:, None]], axis=1)


def calibration_error(sums: Array) -> Array:
    """Return the expected calibration error from sums (resamples, 3 x bins)."""
    counts, confidence, correct = np.split(sums, 3, axis=1)
    return divide(np.abs(correct - confidence).sum(1), counts.sum(1))


def calibration_measure(confidence: Array, correct: Array) -> Measure:
    """Return the expected calibration error of the confidence in each row's answer."""
    return CalibrationError(
        "ece",
        bounds=UNIT,
        statistics=calibration_statistics(confidence, correct),
        function=calibration_error,
        confidence=confidence,
    )


def means(scale: float, **columns: Any) -> list[Measure]:
    """Return one mean for each named column of numbers (rows,)."""
    return [
        Mean(name, scale=scale, bounds=(0.0, scale), rows=np.asarray(values, dtype=float))
        for name, values in columns.items()
    ]


def discounted_gain(grades: Sequence[float], k: int) -> float:
    """Return the discounted cumulative gain of grades in the order of a ranking (Järvelin and Kekäläinen, 2002)."""
    return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades[:k]))
