"""Records of an evaluation: metrics with intervals, errors, slices, comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .resampling import Difference, McNemar
from .rows import FailedRow
from .scorers.base import Confusion, LabelScores

Interval = tuple[float, float]


@dataclass(frozen=True)
class WrongAnswer:
    """Row whose answer is wrong.

    Args:
        location: of the row. expected, given: right and given answer. confidence: of the model; None without.
    """

    location: str
    text: str
    expected: str
    given: str
    confidence: float | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of similar confidence: bounds of the bin, number of answers, mean confidence, share of right answers."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Slice:
    """Metrics of some of the rows."""

    column: str
    value: str
    count: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """Differences to another model on the same rows: this model minus the other.

    Args:
        metrics: of the other model. mcnemar: of rows that are right or wrong; None for tasks without such rows.
        changed: rows that only one of both answers correctly, as (location, text, given, other's answer).
    """

    model: str
    metrics: Mapping[str, float]
    differences: Sequence[Difference]
    mcnemar: McNemar | None
    changed: Sequence[tuple[str, str, str, str]] = ()


@dataclass
class EvaluationRecord:
    """Numbers of an evaluation.

    Attributes:
        task, model, precision, source: what was evaluated on what. rows: of the source. scored: that have a reference.
        unanswered: number of scored rows that the model could not answer; they count as wrong.
        failures: every row that is not scored or not answered, with its reason.
        metrics: name -> value. intervals: name -> (low, high), NaN where there is none.
        errors: wrong answers, the worst first.
        notes: facts that change how the numbers are read. ranges: smallest and largest possible value of each metric.
    """

    task: str
    model: str
    precision: str
    source: str
    rows: int
    scored: int
    unanswered: int
    failures: list[FailedRow]
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    confidence: float
    resamples: int
    seed: int
    errors: list[WrongAnswer] = field(default_factory=list)
    wrong: int = 0
    labels: list[LabelScores] = field(default_factory=list)
    confusion: Confusion | None = None
    reliability: list[ReliabilityBin] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    comparison: Comparison | None = None
    notes: list[str] = field(default_factory=list)
    ranges: dict[str, Interval] = field(default_factory=dict)

    def full_scale(self, name: str) -> float | None:
        """Return the largest possible value of a metric; None if it has none, or the metric is negative here."""
        most = self.ranges.get(name, (0.0, math.inf))[1]
        low = self.intervals.get(name, (math.nan, math.nan))[0]
        return most if math.isfinite(most) and min(low, self.metrics[name]) >= 0 else None

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"<{self.task} of {self.model} on {self.scored} of {self.rows} rows: {values}>"

    @property
    def summary(self) -> str:
        """Numbers of rows: all, scored, answered."""
        parts = [f"{self.rows:,} rows"]
        if self.rows != self.scored:
            parts.append(f"{self.rows - self.scored:,} not scored (no usable input or reference)")
        if self.unanswered:
            parts.append(f"{self.unanswered:,} without an answer, which count as wrong where a metric can say so")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return all results as JSON values; None for an undefined number."""
        result: dict[str, Any] = finite({**asdict(self), "summary": self.summary})
        return result


def finite(value: Any) -> Any:
    """Return a value with None in the place of numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
