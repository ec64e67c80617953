"""`evaluate(pipe, data)`: answer labeled rows and score the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput, nearest, warn
from ..pipelines.answers import Failure
from ..pipelines.base import Pipeline
from .measures import BINS, calibration_statistics
from .records import Comparison, ReliabilityBin, Slice, WrongAnswer
from .resampling import Resampling, differences, intervals, mcnemar, point
from .result import Evaluation
from .rows import FailedRow, LabeledRows, labeled_rows
from .scorers.base import Case, ScoredCases, Scorer
from .scorers.registry import scorer_class
from .slices import by_column, length_bands

LENGTH = "length"  # name of the slices by text length
LEAST = 2  # rows of a slice that has an interval


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of `evaluate`.

    Args:
        columns: key -> column, such as {"text": "review", "label": "stars"}. Default: by name, as in training.
        label_map: label of the rows -> label of the model.
        slices: columns whose values make slices. length_bands: also slice by the length of the text.
        group: column of rows that belong together, such as questions about one article: intervals draw whole groups.
        worst: number of wrong answers to keep.
        resamples, seed, confidence: of the bootstrap intervals.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    label_map: Mapping[str, str] = field(default_factory=dict)
    slices: Sequence[str] = ()
    length_bands: bool = True
    group: str | None = None
    worst: int = 20
    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    @property
    def resampling(self) -> Resampling:
        return Resampling(self.resamples, self.seed, self.confidence)


def evaluate(
    pipe: Pipeline, data: Any, *, compare: Pipeline | None = None, columns: Mapping[str, str] | None = None,
    label_map: Mapping[str, str] | None = None, slices: Sequence[str] = (), length_bands: bool = True,
    group: str | None = None, worst: int = 20, resamples: int = 1000, seed: int = 0, confidence: float = 0.95,
    **options: Any,
) -> Evaluation:  # fmt: skip
    """Answer labeled rows with a pipeline and score the answers.

    Rows without a usable input or reference are not scored; rows that the pipeline cannot answer count as wrong. Both
    are counted and named in `failures`.

    Args:
        pipe: a pipeline of any task that has right answers.
        data: a path (.csv, .tsv, .jsonl, .json, .parquet, .txt; SQuAD's format too), a list of dicts, a data frame, a
            table, a `datasets.Dataset`.
        compare: another pipeline of the task, which answers the same rows.
        columns, label_map, slices, length_bands, group, worst, resamples, seed, confidence: see `EvaluationOptions`.
        options: of calls of the pipeline.

    Raises:
        InvalidInput: no rows, a missing column, labels that are none of the model's, no row that can be scored.
        UnsupportedOption: a task without right answers, an unknown option.
    """
    own = EvaluationOptions(
        columns=columns or {}, label_map=label_map or {}, slices=slices, length_bands=length_bands, group=group,
        worst=worst, resamples=resamples, seed=seed, confidence=confidence,
    )  # fmt: skip
    own.resampling.check()
    if isinstance(worst, bool) or not isinstance(worst, int) or worst < 0:
        raise InvalidInput(f"worst is a number of wrong answers from 0, not {worst!r}.")
    rows = labeled_rows(data)
    run = answered(pipe, rows, own, options)
    result = summarized(run, rows, own)
    if compare is not None:
        result.comparison = compared(run, answered(compare, rows, own, options), own)
    return result


@dataclass(frozen=True)
class AnsweredRows:
    """Cases of one pipeline with their answers and scores.

    Args:
        failures: rows that are no cases. unanswered: cases without an answer.
    """

    pipe: Pipeline
    scorer: Scorer
    cases: list[Case]
    scored: ScoredCases
    failures: list[FailedRow]
    unanswered: list[FailedRow]
    notes: list[str]


def answered(
    pipe: Pipeline, rows: LabeledRows, own: EvaluationOptions, options: Mapping[str, Any], *, raw: bool = False
) -> AnsweredRows:
    """Read the rows, answer and score them.

    Args:
        raw: scores of answers may be others than the measures are of, such as logits.

    Raises:
        InvalidInput: no row can be scored or answered. UnsupportedOption: an option that the measures do not allow.
    """
    pipe.resolve_options(**options)
    scorer = scorer_class(pipe.task)(pipe, rows.rows, own.columns, own.label_map, options)
    if not raw:
        scorer.check_scores()
    cases, failures = read_cases(scorer, rows)
    if not cases:
        raise InvalidInput(f"No row of {rows.name} can be scored. The first: {failures[0].reason}")
    unanswered = []
    for case, answer in zip(cases, scorer.answers([case.input for case in cases]), strict=True):
        if isinstance(answer, Failure):
            reason = str(answer.error).removeprefix(f"Input {answer.number}").lstrip(": ")
            unanswered.append(FailedRow(case.location, reason, "answer"))
        else:
            case.answer = answer
    if len(unanswered) == len(cases):
        raise InvalidInput(
            f"{pipe.model.name_or_path} could answer no row of {rows.name}. {unanswered[0].location}: "
            f"{unanswered[0].reason}"
        )
    scored = scorer.score(cases)
    return AnsweredRows(pipe, scorer, cases, scored, failures, unanswered, [*filter(None, [pipe.note]), *scored.notes])


def model_name(pipe: Pipeline) -> str:
    """Return the name of a pipeline's model, without its hash and with its adapter."""
    metadata = pipe.start_metadata()
    return metadata.model.partition("#sha256=")[0] + (f" with {metadata.adapter}" if metadata.adapter else "")


def read_cases(scorer: Scorer, rows: LabeledRows) -> tuple[list[Case], list[FailedRow]]:
    """Return the rows that have an input and a reference, and the others with their reason."""
    cases, failures = [], list(rows.broken)
    for number, row in enumerate(rows.rows):
        place = rows.rows.location(number)
        try:
            item, reference = scorer.read(number, row)
        except InvalidInput as error:
            reason = str(error).removeprefix(rows.rows.subject(number)).lstrip(": ")
            failures.append(FailedRow(place, reason, "reference"))
            continue
        cases.append(Case(number, place, row, item, reference))
    return cases, failures


def summarized(run: AnsweredRows, rows: LabeledRows, own: EvaluationOptions) -> Evaluation:
    """Return the result of one pipeline, without a comparison."""
    scored, count, how = run.scored, len(run.cases), own.resampling
    every = np.arange(count)
    groups = group_numbers(run.cases, own.group)
    result = Evaluation(
        task=run.pipe.task, model=model_name(run.pipe), precision=run.pipe.precision, source=rows.name,
        rows=rows.total, scored=count, unanswered=len(run.unanswered), failures=[*run.failures, *run.unanswered],
        metrics={measure.name: point(measure, every, count) for measure in scored.measures},
        intervals=intervals(scored.measures, every, count, how, groups),
        confidence=own.confidence, resamples=own.resamples, seed=own.seed,
        errors=worst_errors(run, own.worst), wrong=int((~np.isnan(scored.severity)).sum()),
        labels=scored.labels, confusion=scored.confusion, notes=list(run.notes),
        ranges={measure.name: measure.bounds for measure in scored.measures},
    )  # fmt: skip
    if scored.confidence is not None and scored.correct is not None:
        result.reliability = reliability(scored.confidence, scored.correct)
    for column in [*([LENGTH] if own.length_bands else []), *own.slices]:
        result.slices += slice_rows(run, column, how, groups)
    if groups is not None:
        result.notes.append(f"Intervals draw whole groups of rows: {len(np.unique(groups))} values of {own.group}.")
    return result


def group_numbers(cases: Sequence[Case], column: str | None) -> NDArray[np.int64] | None:
    """Return the number of each case's group. Raises InvalidInput for a missing column or a single group."""
    if column is None:
        return None
    if not any(column in case.row for case in cases):
        known = {str(name) for case in cases for name in case.row}
        raise InvalidInput(f"There is no column {column!r} to group by. {nearest(column, known)}")
    names: dict[str, int] = {}
    numbers = np.array([names.setdefault(str(case.row.get(column)), len(names)) for case in cases])
    if len(names) < 2:
        raise InvalidInput(f"All rows have one {column}, so that there are no groups to draw.")
    return numbers


def worst_errors(run: AnsweredRows, most: int) -> list[WrongAnswer]:
    """Return the worst answers: those that the model is surest of, or that differ most."""
    scored = run.scored
    order = np.argsort(-np.nan_to_num(scored.severity, nan=-np.inf), kind="stable")[:most].tolist()
    found = []
    for number in order:
        if np.isnan(scored.severity[number]):
            break
        case = run.cases[number]
        sure = None if scored.confidence is None else float(scored.confidence[number])
        sure = None if sure is None or np.isnan(sure) else sure
        found.append(
            WrongAnswer(
                case.location, run.scorer.text(case), str(scored.expected[number]), str(scored.given[number]), sure
            )
        )
    return found


def reliability(confidence: Any, correct: Any) -> list[ReliabilityBin]:
    """Return the bins of a reliability diagram that have answers."""
    counts, sure, right = np.split(calibration_statistics(confidence, correct).sum(0), 3)
    return [
        ReliabilityBin(n / BINS, (n + 1) / BINS, int(counts[n]), sure[n] / counts[n], right[n] / counts[n])
        for n in range(BINS)
        if counts[n]
    ]


def slice_rows(
    run: AnsweredRows, column: str, how: Resampling, groups: NDArray[np.int64] | None
) -> list[Slice]:  # fmt: skip
    """Return the metrics of each slice of a column, or of the text lengths."""
    count = len(run.cases)
    if column == LENGTH and not any(LENGTH in case.row for case in run.cases):
        found = length_bands([run.scorer.text(case) for case in run.cases])
    else:
        found = by_column(run.cases, column)
    result = []
    for name, numbers in found:
        rows = np.array(numbers)
        metrics = {measure.name: point(measure, rows, count) for measure in run.scored.measures}
        own = intervals(run.scored.measures, rows, count, how, groups) if len(rows) >= LEAST else {}
        result.append(Slice(column, name, len(rows), metrics, own))
    return result


def compared(first: AnsweredRows, second: AnsweredRows, own: EvaluationOptions) -> Comparison:
    """Return the differences of two pipelines on the same rows. Raises InvalidInput for pipelines of unlike tasks."""
    count = len(first.cases)
    if [case.number for case in first.cases] != [case.number for case in second.cases]:
        raise InvalidInput("Both models must read the same rows; one of them cannot use some of the references.")
    found = differences(
        first.scored.measures, second.scored.measures, count, own.resampling, group_numbers(first.cases, own.group)
    )
    if first.pipe.precision != second.pipe.precision:
        warn(f"The models compute in {first.pipe.precision} and {second.pipe.precision}: precision may differ too.")
    one, other = first.scored.correct, second.scored.correct
    both = one is not None and other is not None
    changed = np.nonzero(np.not_equal(one == 1, other == 1))[0] if both else np.array([], int)
    return Comparison(
        model_name(second.pipe),
        {measure.name: point(measure, np.arange(count), count) for measure in second.scored.measures},
        found, mcnemar(one, other) if one is not None and other is not None else None,
        [(first.cases[n].location, first.scorer.text(first.cases[n]), str(first.scored.given[n]),
          str(second.scored.given[n])) for n in changed[: own.worst].tolist()],
    )  # fmt: skip
