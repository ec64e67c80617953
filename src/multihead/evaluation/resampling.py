"""Seeded bootstrap over rows: intervals of a measure, and paired tests of two models on the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .measures import CalibrationError, Measure

Array = NDArray[np.float64]
CALIBRATED_DRAWS = 200  # simulations of a calibrated model
CELLS = 1 << 22  # numbers of a chunk of resamples at most


@dataclass(frozen=True)
class Resampling:
    """Options of the bootstrap.

    Args:
        resamples: number of bootstrap resamples. seed: of their random generator.
        confidence: probability that an interval should cover the true value.
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def check(self) -> None:
        """Raise InvalidInput for values that are not possible."""
        if isinstance(self.resamples, bool) or not isinstance(self.resamples, int) or self.resamples < 100:
            raise InvalidInput(f"resamples is a whole number from 100, not {self.resamples!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InvalidInput(f"seed is a whole number from 0, not {self.seed!r}.")
        if not isinstance(self.confidence, (int, float)) or not 0.5 <= self.confidence < 1:
            raise InvalidInput(f"confidence is a number from 0.5 to less than 1, not {self.confidence!r}.")

    def weights(self, rows: NDArray[np.int64], count: int, groups: NDArray[np.int64] | None = None) -> Iterator[Array]:
        """Yield chunks of resamples (resamples of the chunk, count): how often each row is drawn.

        Args:
            rows: numbers of the rows to draw from. count: number of all rows.
            groups: group of each of all rows; whole groups are drawn, because rows of one group are not independent.
        """
        draw = np.random.default_rng(self.seed)
        names, place = np.unique(groups[rows], return_inverse=True) if groups is not None else (rows, None)
        size = max(1, min(self.resamples, CELLS // max(count, 1)))
        for begin in range(0, self.resamples, size):
            chunk = np.zeros((min(size, self.resamples - begin), count))
            for line in chunk:
                drawn = np.bincount(draw.integers(0, len(names), len(names)), minlength=len(names))
                line[rows] = drawn if place is None else drawn[place]
            yield chunk


def point(measure: Measure, rows: NDArray[np.int64], count: int) -> float:
    """Return the value of a measure on some rows."""
    once = np.zeros((1, count))
    once[0, rows] = 1
    return float(measure.values(once)[0])


def intervals(
    measures: Sequence[Measure], rows: NDArray[np.int64], count: int, how: Resampling,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Return the interval of each measure by its name, (NaN, NaN) where there is none, as for rows of one group.

    Percentile intervals (Efron, 1979). A share of rows that is 0 or 1 has no spread; its interval is Wilson's (1927).
    Resamples of a calibration error are too large, so that its lower end is mirrored at the estimate (Davison and
    Hinkley, 1997, section 5.2), and is 0 if a calibrated model might have as large an error on these rows.
    """
    if groups is not None and len(np.unique(groups[rows])) < 2:  # its draws are all alike
        return {measure.name: (math.nan, math.nan) for measure in measures}
    samples: list[list[Array]] = [[] for _ in measures]
    for weights in how.weights(rows, count, groups):
        for found, measure in zip(samples, measures, strict=True):
            found.append(measure.values(weights))
    every = (np.concatenate(found) for found in samples)
    return {
        measure.name: interval(measure, values, point(measure, rows, count), rows, how)
        for measure, values in zip(measures, every, strict=True)
    }


def interval(
    measure: Measure, values: Array, estimate: float, rows: NDArray[np.int64], how: Resampling
) -> tuple[float, float]:
    """Return the interval of one measure from its values on all resamples."""
    finite = values[np.isfinite(values)]
    if not math.isfinite(estimate) or len(finite) < 0.9 * len(values):
        return math.nan, math.nan
    tail = (1 - how.confidence) / 2
    low, high = (float(q) for q in np.quantile(finite, [tail, 1 - tail]))
    if low == high and measure.share:
        return wilson(estimate / measure.scale, measure.count(rows), how.confidence, measure.scale)
    if isinstance(measure, CalibrationError):
        calibrated = measure.when_calibrated(rows, CALIBRATED_DRAWS, how.seed)
        low = 0.0 if estimate <= np.quantile(calibrated, 1 - tail) else 2 * estimate - high
    least, most = measure.bounds
    return max(low, least), min(high, most)


def wilson(share: float, count: int, confidence: float, scale: float = 1.0) -> tuple[float, float]:
    """Return Wilson's interval of a share of `count` rows (Wilson, 1927), times `scale`."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low, high = ((middle + sign * spread) / (1 + z * z / count) for sign in (-1, 1))
    return scale * max(low, 0.0), scale * min(high, 1.0)


@dataclass(frozen=True)
class Difference:
    """Difference of a measure between two models on the same rows: the first minus the second.

    Args:
        low, high: of its interval. p: two-sided p-value of no difference, by the paired bootstrap.
    """

    name: str
    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        return self.first - self.second


def differences(
    first: Sequence[Measure], second: Sequence[Measure], count: int, how: Resampling,
    groups: NDArray[np.int64] | None = None,
) -> list[Difference]:  # fmt: skip
    """Return the difference of each measure that both models have (paired bootstrap: Koehn, 2004, W04-3250).

    Both models are scored on the same resamples, so that the rows' difficulty cancels. The p-value is the share of
    resamples whose difference, moved so that its mean is 0, is at least as large as the one found.
    """
    others = {measure.name: measure for measure in second}
    pairs = [(one, others[one.name]) for one in first if one.name in others]
    rows = np.arange(count)
    found: list[list[Array]] = [[] for _ in pairs]
    for weights in how.weights(rows, count, groups):
        for values, (one, other) in zip(found, pairs, strict=True):
            values.append(one.values(weights) - other.values(weights))
    result = []
    for values, (one, other) in zip(found, pairs, strict=True):
        ours, theirs = point(one, rows, count), point(other, rows, count)
        sample = np.concatenate(values)
        sample = sample[np.isfinite(sample)]
        if not len(sample) or not math.isfinite(ours - theirs):
            result.append(Difference(one.name, ours, theirs, math.nan, math.nan, math.nan))
            continue
        tail = (1 - how.confidence) / 2
        low, high = (float(q) for q in np.quantile(sample, [tail, 1 - tail]))
        extreme = int((np.abs(sample - sample.mean()) >= abs(ours - theirs) - 1e-12).sum())
        result.append(Difference(one.name, ours, theirs, low, high, (extreme + 1) / (len(sample) + 1)))
    return result


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of two models answers correctly, and the exact two-sided p-value (McNemar, 1947)."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Array, second: Array) -> McNemar:
    """Compare two models by the rows that each answers correctly.

    Args:
        first, second: 1 for a correct row, 0 for a wrong one, NaN for a row that is neither; (rows,).
    """
    only_first = int(((first == 1) & (second == 0)).sum())
    only_second = int(((first == 0) & (second == 1)).sum())
    return McNemar(only_first, only_second, binomial_p(min(only_first, only_second), only_first + only_second))


def binomial_p(fewer: int, trials: int) -> float:
    """Return the two-sided p-value of at most `fewer` heads in `trials` throws of a fair coin."""
    if not trials:
        return 1.0
    logs = [log_choose(trials, k) - trials * math.log(2) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))


def log_choose(n: int, k: int) -> float:
    """Return the logarithm of a binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
