"""Scores with bootstrap intervals, printed as they come and written as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from multihead.machine_facts import processor

PACKAGES = ("torch", "transformers", "tokenizers", "multihead")
T = TypeVar("T")
SAMPLES = 1000  # of a bootstrap
Statistic = Callable[[np.ndarray], float]  # row numbers -> score of these rows


@dataclass(frozen=True)
class Score:
    """Score with the 2.5th and the 97.5th percentile of a bootstrap over rows (Efron, 1979)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def mean(values: Sequence[float], scale: float = 100.0) -> Score:
    """Return the mean of one number a row, as a percentage."""
    numbers = scale * np.asarray(values, dtype=float)
    return bootstrap(len(numbers), lambda rows: float(numbers[rows].mean()))


def bootstrap(rows: int, statistic: Statistic, samples: int = SAMPLES, seed: int = 0) -> Score:
    """Return a statistic of all rows with its interval. For scores that are no mean: BLEU, AUROC, ECE, macro F1.

    NaN for no rows, as a small `--count` may leave them.
    """
    if not rows:
        return Score(*[float("nan")] * 3)
    draw = np.random.default_rng(seed)
    drawn = [statistic(draw.integers(0, rows, rows)) for _ in range(samples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Score(statistic(np.arange(rows)), float(low), float(high))


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> Score:
    """Return the probability that a positive row has a greater score than a negative one (Hanley and McNeil, 1982)."""
    values, marks = np.asarray(scores, dtype=float), np.asarray(positive)

    def statistic(rows: np.ndarray) -> float:
        ours, theirs = np.sort(values[rows][~marks[rows]]), values[rows][marks[rows]]
        if not len(ours) or not len(theirs):
            return float("nan")
        below, most = np.searchsorted(ours, theirs), np.searchsorted(ours, theirs, side="right")
        return 100 * float((below + most).mean()) / 2 / len(ours)

    return bootstrap(len(values), statistic)


def difference(ours: Sequence[float], theirs: Sequence[float], scale: float = 100.0) -> Score:
    """Return the mean difference of two systems on the same rows: a paired bootstrap (Koehn, 2004)."""
    return mean(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float), scale)


@dataclass(frozen=True)
class Row:
    """Scores of one system on one data set.

    Args:
        rows: number of inputs. tuned: the data were seen while prompts, rules or weights were chosen.
    """

    task: str
    data: str
    system: str
    rows: int
    scores: Mapping[str, Score]
    tuned: bool = False


@dataclass
class Report:
    """Results of a run of the benchmark.

    Args:
        data: folder of the data sets. count: rows of each set at most, see `sample`.
        reference: rows that the reference answers.
    """

    data: Path
    count: int
    reference: int
    rows: list[Row] = field(default_factory=list)

    def sample(self, rows: Iterable[T]) -> list[T]:
        """Return all rows in an order that is drawn with one seed, or the first `count` of them."""
        return random.Random(0).sample(every := list(rows), min(len(every), self.count))

    def add(
        self, task: str, data: str, system: str, rows: int, scores: Mapping[str, Score], *, tuned: bool = False
    ) -> None:
        """Print and keep the scores of one system."""
        self.rows.append(Row(task, data, system, rows, scores, tuned))
        told = "  ".join(f"{name} {score}" for name, score in scores.items())
        print(f"{task:<20} {data + (' (tuned on)' if tuned else ''):<34} {system:<40} {rows:>6}  {told}", flush=True)

    def close(self, path: Path | None) -> None:
        """Print the machine; write all results as JSON where a path is given."""
        print(", ".join(f"{name} {value}" for name, value in machine().items()))
        if path is not None:
            path.write_text(json.dumps({"machine": machine(), "rows": [asdict(row) for row in self.rows]}, indent=2))


def machine() -> dict[str, Any]:
    """Return the processor and the versions that the numbers were measured with."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}
