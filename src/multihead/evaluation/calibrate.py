"""`calibrate(pipe, data)`: fit what makes scores probabilities, with errors before and after by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from ..pipelines.base import Pipeline
from ..pipelines.calibration import Calibration
from ..pipelines.calibration_fit import fit_temperature, fit_thresholds
from ..pipelines.prompted_labels import PromptScorer
from ..pipelines.question_answering.pipeline import LABELS as ANSWERABLE
from ..training.data.labels import MULTI_LABEL, REGRESSION
from ..training.evaluation.text_metrics import answer_scores
from .evaluate import AnsweredRows, EvaluationOptions, answered, model_name
from .measures import (
    UNIT,
    Array,
    Mean,
    Measure,
    OfSums,
    calibration_error,
    calibration_measure,
    calibration_statistics,
)
from .resampling import Resampling, intervals, point
from .rows import labeled_rows

FOLDS = 5
Fit = Callable[[NDArray[np.int64]], Calibration]  # of some of the rows


@dataclass(frozen=True)
class CalibrationResult:
    """Result of `calibrate`.

    Args:
        calibration: fitted on all rows. rows: number of rows it was fitted on. failures: number of rows left out.
        before, after: metrics on the same rows; after it, each row is scored by a calibration that was fitted on other
            rows (cross-validation). intervals_before, intervals_after: of the metrics.
    """

    task: str
    model: str
    source: str
    calibration: Calibration
    rows: int
    failures: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    intervals_before: Mapping[str, tuple[float, float]]
    intervals_after: Mapping[str, tuple[float, float]]
    notes: Sequence[str] = field(default_factory=tuple)


def calibrate(
    pipe: Pipeline, data: Any, *, columns: Mapping[str, str] | None = None, label_map: Mapping[str, str] | None = None,
    bias: bool = False, thresholds: bool = False, precision: float = 0.9, folds: int = FOLDS, resamples: int = 1000,
    seed: int = 0, confidence: float = 0.95, **options: Any,
) -> CalibrationResult:  # fmt: skip
    """Fit the calibration of a classifier, or of "no answer" of an extractive question answerer.

    The rows must be others than those that the model was trained on. `result.calibration.save(folder)` stores the
    calibration with the model.

    Args:
        pipe, data, columns, label_map: as in `evaluate`.
        bias: also fit a bias of each label (Alexandari et al., 2020), which may change best labels. Question answering
            always has one.
        thresholds: also fit thresholds: of texts with one label, below which the answer is "unknown", for so large a
            `precision`; of texts with several labels, those of the best F1.
        folds: of the cross-validation.

    Raises:
        InvalidInput: as `evaluate`; too few rows, or rows of one label only.
        UnsupportedOption: a pipeline whose answers are not calibrated.
    """
    Resampling(resamples, seed, confidence).check()
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise InvalidInput(f"folds is a whole number from 2, not {folds!r}.")
    if "calibration" not in getattr(pipe.Options, "__dataclass_fields__", {}):
        raise UnsupportedOption(
            f"{type(pipe).__name__} has no calibration: it is fitted for text-classification with a trained head and "
            "for extractive question-answering."
        )
    own = EvaluationOptions(columns=columns or {}, label_map=label_map or {}, resamples=resamples, seed=seed,
                            confidence=confidence)  # fmt: skip
    work = Work(own.resampling, folds, bias, thresholds, precision)
    return (work.questions if "no_answer" in pipe.Options.__dataclass_fields__ else work.labels)(
        pipe, labeled_rows(data), own, options
    )


@dataclass(frozen=True)
class Work:
    """Settings of a fit; see `calibrate`."""

    how: Resampling
    folds: int
    bias: bool
    thresholds: bool
    precision: float

    def labels(
        self, pipe: Pipeline, rows: Any, own: EvaluationOptions, options: Mapping[str, Any]
    ) -> CalibrationResult:
        """Calibrate a classifier."""
        relative = isinstance(pipe, PromptScorer)  # whose calibration is of scores relative to the reference texts
        run = answered(pipe, rows, own, {**options, "calibration": relative, "function_to_apply": "none"}, raw=True)
        scorer: Any = run.scorer
        kind, names = scorer.labels.kind, list(scorer.labels.names)
        if kind == REGRESSION or (len(names) < 2 and kind != MULTI_LABEL):
            raise UnsupportedOption(f"{model_name(pipe)} gives a number, not probabilities of labels.")
        cases = [case for case in run.cases if case.answer is not None]
        logits = torch.tensor(scorer.probabilities(cases))
        targets = torch.tensor(np.array([case.reference for case in cases]))

        def fit(part: NDArray[np.int64]) -> Calibration:
            scores, right = logits[part], targets[part]
            found = fit_temperature(scores, right, names, bias=self.bias)
            if not self.thresholds:
                return found
            own = probabilities(found, scores, names, right.ndim)
            return replace(found, thresholds=fit_thresholds(own, right, names, precision=self.precision))

        strata = targets.numpy() if targets.ndim == 1 else targets.numpy().sum(1).astype(int)
        return self.result(run, fit, strata, lambda parts: label_measures(parts, logits, targets, names))

    def questions(
        self, pipe: Pipeline, rows: Any, own: EvaluationOptions, options: Mapping[str, Any]
    ) -> CalibrationResult:
        """Calibrate the probability that a context holds an answer, and the threshold of the best F1."""
        fixed = {"calibration": False, "no_answer": True, "handle_impossible_answer": False, "top_k": 1}
        run = answered(pipe, rows, own, {**options, **fixed})
        cases = [case for case in run.cases if case.answer]
        none = np.clip([case.answer["no_answer"] for case in cases], 1e-12, 1 - 1e-12)
        margins = np.log1p(-none) - np.log(none)
        scores = [answer_scores(case.answer["answer"], list(case.reference)) for case in cases]
        f1 = np.array([row.f1 if row.has_answer else 0.0 for row in scores])
        targets = torch.tensor([0 if row.has_answer else 1 for row in scores])
        if len(targets.unique()) < 2:
            raise InvalidInput(
                f"{rows.name} has no questions {'without' if not targets.any() else 'with'} an answer: the probability "
                "of no answer is fitted on questions of both kinds."
            )
        logits = torch.tensor(np.stack([margins, np.zeros(len(margins))], 1))
        gains = np.stack([f1, targets.numpy().astype(float)])  # of the best span, of ""

        def fit(part: NDArray[np.int64]) -> Calibration:
            found = fit_temperature(logits[part], targets[part], list(ANSWERABLE), bias=True)
            likely = probabilities(found, logits[part], list(ANSWERABLE))[:, 0].numpy()
            return replace(found, thresholds={ANSWERABLE[0]: best_threshold(likely, gains[:, part])})

        return self.result(run, fit, targets.numpy(), lambda parts: answer_measures(parts, logits, targets, gains))

    def result(
        self, run: AnsweredRows, fit: Fit, strata: NDArray[Any],
        measure: Callable[[Sequence[tuple[Any, Calibration | None]]], list[Measure]],
    ) -> CalibrationResult:  # fmt: skip
        """Fit on all rows, and on all but each fold.

        Args:
            strata: number of each row's kind, of which each fold gets its share.
            measure: takes (rows, calibration) of each part of the rows, returns the measures of all rows.
        """
        count = len(strata)
        parts = list(folds_of(strata, self.folds, self.how.seed))
        try:
            fitted = [fit(np.setdiff1d(np.arange(count), part)) for part in parts]
        except InvalidInput as error:
            raise InvalidInput(
                f"{run.scorer.rows.name} has {count} rows that count, too few to leave out one of {len(parts)} folds "
                f"for the errors after the fit: {error}"
            ) from error
        before = measure([(np.arange(count), None)])
        after = measure(list(zip(parts, fitted, strict=True)))
        every, final = np.arange(count), fit(np.arange(count))
        values = [{each.name: point(each, every, count) for each in side} for side in (before, after)]
        facts = {**final.facts, "data": run.scorer.rows.name}
        if "ece" in values[0]:
            facts |= {"ece_before": round(values[0]["ece"], 4), "ece_after": round(values[1]["ece"], 4)}
        notes = [*run.notes, *never_given(final, self.precision)]
        return CalibrationResult(
            run.pipe.task, model_name(run.pipe), run.scorer.rows.name, replace(final, facts=facts), count,
            len(run.failures) + len(run.cases) - count, values[0], values[1],
            intervals(before, every, count, self.how), intervals(after, every, count, self.how), tuple(notes),
        )  # fmt: skip


def never_given(calibration: Calibration, precision: float) -> list[str]:
    """Return a note on labels that no answer has, because none of their scores reaches the precision."""
    names = [repr(name) for name, least in calibration.thresholds.items() if least >= 1]
    if not names:
        return []
    return [
        f"No score of {', '.join(names)} reaches a precision of {precision:g} on these rows: the answer is "
        '"unknown" instead. Give more rows, or a smaller precision.'
    ]


def folds_of(strata: NDArray[Any], folds: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the rows of each fold, in which each stratum has its share."""
    shuffled = np.random.default_rng(seed).permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    return [np.sort(order[number::folds]) for number in range(min(folds, len(strata)))]


def probabilities(calibration: Calibration | None, logits: Tensor, names: Sequence[str], ndim: int = 1) -> Tensor:
    """Return calibrated probabilities: of a softmax, or of sigmoids if targets have two dimensions."""
    scores = logits if calibration is None else calibration.apply(logits, names)
    return scores.softmax(-1) if ndim == 1 else scores.sigmoid()


def label_measures(
    parts: Sequence[tuple[Any, Calibration | None]], logits: Tensor, targets: Tensor, names: Sequence[str]
) -> list[Measure]:
    """Return calibration error, log loss and accuracy; with thresholds also coverage and accuracy of the rest."""
    table, least = torch.zeros_like(logits), np.zeros(logits.shape)
    for rows, calibration in parts:
        table[rows] = probabilities(calibration, logits[rows], names, targets.ndim)
        thresholds = {} if calibration is None else calibration.thresholds
        default = 0.0 if targets.ndim == 1 else 0.5
        least[rows] = [thresholds.get(name, default) for name in names]
    if targets.ndim == 2:
        return set_measures(table.numpy(), targets.numpy(), least)
    sure, best = (each.numpy() for each in table.max(-1))
    right = targets.numpy()
    correct = (best == right).astype(float)
    loss = -np.log(np.maximum(table.numpy()[np.arange(len(right)), right], 1e-12))
    measures = [calibration_measure(sure, correct), Mean("log_loss", bounds=(0.0, math.inf), rows=loss),
                Mean("accuracy", bounds=UNIT, rows=correct)]  # fmt: skip
    if least.any():
        taken = sure >= least[np.arange(len(best)), best]
        measures += [
            Mean("coverage", bounds=UNIT, rows=taken.astype(float)),
            Mean("accuracy_answered", bounds=UNIT, rows=np.where(taken, correct, np.nan)),
        ]
    return measures


def set_measures(table: Array, right: Array, least: Array) -> list[Measure]:
    """Return calibration error over all decisions, and micro F1, of texts with several labels."""
    given = table >= least
    sure, correct = np.maximum(table, 1 - table), (table > 0.5) == (right > 0.5)
    sums = calibration_statistics(sure.ravel(), correct.ravel().astype(float)).reshape(len(table), table.shape[1], -1)
    hits = given & (right > 0.5)
    counts = np.stack([hits.sum(1), given.sum(1), (right > 0.5).sum(1)], 1).astype(float)
    return [
        OfSums("ece", bounds=UNIT, statistics=sums.sum(1), function=calibration_error),
        OfSums("f1_micro", bounds=UNIT, statistics=counts, function=f1_of_counts),
    ]


def f1_of_counts(sums: Array) -> Array:
    """Return F1 from sums (resamples, 3) of hits, answers and references."""
    return np.nan_to_num(2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1e-12))


def answer_measures(
    parts: Sequence[tuple[Any, Calibration | None]], logits: Tensor, targets: Tensor, gains: Array
) -> list[Measure]:
    """Return the calibration error of "the context holds an answer", and F1 of the answers that are accepted."""
    likely, least = np.zeros(len(logits)), np.full(len(logits), 0.5)
    for rows, calibration in parts:
        likely[rows] = probabilities(calibration, logits[rows], ANSWERABLE)[:, 0].numpy()
        least[rows] = 0.5 if calibration is None else calibration.thresholds.get(ANSWERABLE[0], 0.5)
    has_answer = targets.numpy() == 0
    accepted = likely >= least
    decided = accepted == has_answer
    return [
        calibration_measure(np.maximum(likely, 1 - likely), ((likely > 0.5) == has_answer).astype(float)),
        Mean("f1", scale=100.0, bounds=(0.0, 100.0), rows=np.where(accepted, gains[0], gains[1])),
        Mean("has_answer_f1", scale=100.0, bounds=(0.0, 100.0), rows=np.where(has_answer, accepted * gains[0], np.nan)),
        Mean("no_answer_accuracy", scale=100.0, bounds=(0.0, 100.0),
             rows=np.where(has_answer, np.nan, decided.astype(float))),
    ]  # fmt: skip


def best_threshold(likely: Array, gains: Array) -> float:
    """Return the threshold of the best mean F1 (SQuAD 2's best_f1): halfway between two neighbours.

    Args:
        likely: probability that there is an answer (rows,). gains: F1 of the best span and of no answer (2, rows).
    """
    order = np.argsort(-likely, kind="stable")
    sure, (span, none) = likely[order], gains[:, order]
    totals = np.concatenate([[none.sum()], none.sum() + np.cumsum(span - none)])  # with the first n accepted
    last = np.concatenate([[True], np.append(sure[1:] < sure[:-1], True)])  # a threshold takes all rows with its score
    best = int(np.argmax(np.where(last, totals, -np.inf)))
    high = 1.0 if best == 0 else sure[best - 1]
    low = 0.0 if best == len(sure) else sure[best]
    return float((high + low) / 2)
