"""Base of scorers: rows to inputs and references, answers to measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput, UnsupportedOption, nearest
from ...pipelines.answers import AnswerStream
from ...pipelines.base import Pipeline
from ...training.data.source import Row, Rows
from ..measures import Measure

Array = NDArray[np.float64]


@dataclass
class Case:
    """Row that has an input and a reference.

    Args:
        number: of the row. location: of the row, for messages. input: of the pipeline. reference: the right answer.
        answer: of the pipeline; None if it could not answer.
    """

    number: int
    location: str
    row: Row
    input: Any
    reference: Any
    answer: Any = None


@dataclass(frozen=True)
class Confusion:
    """Counts of references (rows) and answers (columns); the last column counts rows without an answer, if any."""

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    counts: list[list[int]]


@dataclass(frozen=True)
class LabelScores:
    """Precision, recall and F1 of one label, and its number of references."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass
class ScoredCases:
    """Scores of all cases, in their order.

    Args:
        measures: of the task. correct: 1 or 0, NaN where an answer is neither; (cases,), None for tasks without.
        severity: (cases,), larger for worse answers; NaN for good ones.
        confidence: (cases,), probability that the model gives its answer; NaN or None without.
        shown: expected and given answer of a case, as texts.
    """

    measures: list[Measure]
    severity: Array
    expected: Sequence[str]
    given: Sequence[str]
    correct: Array | None = None
    confidence: Array | None = None
    confusion: Confusion | None = None
    labels: list[LabelScores] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Scorer:
    """Reads the rows of a task and scores the answers.

    Args:
        pipe: the pipeline. rows: those that can be read. columns: key -> column that the caller names.
        label_map: label of the rows -> label of the model. options: of calls of the pipeline.
    """

    keys: ClassVar[tuple[str, ...]] = ()
    takes_label_map: ClassVar[bool] = False

    def __init__(
        self, pipe: Pipeline, rows: Rows, columns: Mapping[str, str], label_map: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.pipe, self.rows, self.columns, self.label_map = pipe, rows, dict(columns), dict(label_map)
        self.options = dict(options)
        for key, name in columns.items():
            if key not in self.keys:
                raise UnsupportedOption(
                    f"{pipe.task} has no column for {key!r}. {nearest(key, self.keys)} Give KEY=COLUMN."
                )
            if name not in rows.columns:
                raise InvalidInput(
                    f"There is no column {name!r} in {rows.name}. {nearest(name, map(str, rows.columns))}"
                )
        if label_map and not self.takes_label_map:
            raise UnsupportedOption(f"A label map has no effect on {pipe.task}: its references are no labels.")
        self.prepare()

    def prepare(self) -> None:
        """Find the columns. Raises InvalidInput for a missing one."""

    def check_scores(self) -> None:
        """Raise UnsupportedOption for an option that makes other scores of answers than the measures are of."""

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        """Return the input and the reference of a row. Raises InvalidInput, naming the row."""
        raise NotImplementedError

    def answers(self, inputs: Sequence[Any]) -> Iterator[Any]:
        """Return the answer to each input, or its failure."""
        stream: AnswerStream = self.pipe.stream(inputs, strict=False, **self.options)
        return stream

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        """Return the scores of all cases, of which there is at least one."""
        raise NotImplementedError

    def text(self, case: Case) -> str:
        """Return the text of a case that is shown in reports, and whose length makes the length bands."""
        return case.input if isinstance(case.input, str) else str(case.input)


def severity_of(wrong: Any, confidence: Any) -> Array:
    """Return the confidence of wrong answers, NaN for right ones; a wrong answer without confidence counts 0."""
    return np.where(np.asarray(wrong, bool), np.nan_to_num(np.asarray(confidence, float)), np.nan)
