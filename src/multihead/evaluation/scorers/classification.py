"""Scorers of text-classification and zero-shot-classification: one label, several labels, or a number a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput, UnsupportedOption
from ...pipelines.calibration import Calibration
from ...training.data.columns import is_missing, require_column, require_text
from ...training.data.labels import (
    KINDS,
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    Labels,
    is_nameless,
    labels_from_names,
    list_names,
    names_of,
    whole_number,
)
from ...training.data.source import Row
from ...training.data.text_classification import LABEL, TextClassificationOptions, texts_of
from ..measures import (
    UNIT,
    Array,
    Auroc,
    Correlation,
    Mean,
    MeanOf,
    Measure,
    OfSums,
    all_macro_f1,
    calibration_measure,
    label_measures,
    micro_f1,
)
from .base import Case, Confusion, LabelScores, ScoredCases, Scorer, severity_of

MAX_LABELS = 200  # of a confusion matrix and of one-against-the-rest curves
Numbers = NDArray[np.int64]


class ClassificationScorer(Scorer):
    """Scores the labels of texts or of pairs."""

    keys: ClassVar[tuple[str, ...]] = ("text", "text_pair", "label")
    takes_label_map = True

    def prepare(self) -> None:
        self.thresholds = self.prepare_options()
        named: dict[str, Any] = {f"{key.removeprefix('text_')}_column": name for key, name in self.columns.items()}
        own = TextClassificationOptions(**named)
        self.texts = texts_of(self.rows, own)
        self.label = require_column(
            self.rows, own.label_column, [name for name in LABEL if name not in self.texts], "label_column"
        )
        self.labels = self.model_labels()
        self.check_labels()

    def prepare_options(self) -> Mapping[str, float]:
        """Ask for the scores of all labels. Returns the thresholds of the calibration, which would hide some."""
        self.options["top_k"] = None
        calibration = getattr(self.pipe.resolve_options(**self.options), "calibration", None)
        if not isinstance(calibration, Calibration) or not calibration.thresholds:
            return {}
        self.options["calibration"] = replace(calibration, thresholds={})
        return dict(calibration.thresholds)

    def check_scores(self) -> None:
        given = self.options.get("function_to_apply", self.pipe.defaults.get("function_to_apply"))
        if given == "none" and self.labels.kind != REGRESSION:
            raise UnsupportedOption(
                'function_to_apply="none" gives logits, and AUROC, ECE and thresholds are of probabilities: leave it '
                "out."
            )

    def model_labels(self) -> Labels:
        """Return the labels of the model and the kind of problem."""
        config = self.pipe.model.config
        prompted = self.options.get("labels") or self.pipe.defaults.get("labels") or getattr(self.pipe, "labels", None)
        names = tuple(map(str, prompted)) if isinstance(prompted, Mapping) else names_of(config)
        kind = SINGLE_LABEL if isinstance(prompted, Mapping) else config.problem_type
        if kind not in KINDS:
            kind = REGRESSION if len(names) == 1 else SINGLE_LABEL
        return labels_from_names(names, kind).for_rows(self.rows, self.label)

    def check_labels(self) -> None:
        """Raise InvalidInput, naming both sets, if the rows have labels that the model does not have."""
        names = self.labels.names
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidInput(
                f"Two of the labels have the name {twice[0]!r}, so that rows cannot say which one they mean. Give each "
                "label a name of its own (id2label, candidate_labels)."
            )
        if wrong := [name for name in self.label_map.values() if name not in names]:
            raise InvalidInput(f"The label map leads to {wrong[0]!r}; the model's labels are {list_names(names)}.")
        if self.labels.kind == REGRESSION:
            return
        cells = [row.get(self.label) for row in self.rows]
        flat = [one for cell in cells for one in (cell if isinstance(cell, (list, tuple)) else [cell])]
        found = {self.mapped(one) for one in flat if not is_missing(one) and str(one).strip()}
        if self.labels.kind == MULTI_LABEL and found <= {0, 1}:
            return
        unknown = []
        for value in found:
            try:
                self.labels.number(value)
            except InvalidInput:
                unknown.append(value)
        if unknown:
            raise InvalidInput(
                f"The column {self.label} of {self.rows.name} has the labels {list_names(sorted(map(str, found)))}; "
                f"{self.pipe.model.name_or_path} has the labels {list_names(names)}. {len(unknown)} of the rows' "
                f"labels ({list_names(sorted(map(str, unknown)))}) are none of the model's: say what each means with "
                f"--map {sorted(map(str, unknown))[0]}={names[0]} (label_map=), or leave such rows out."
            )

    def mapped(self, value: Any) -> Any:
        """Return a label of the rows in the model's words, as far as the label map says so."""
        if isinstance(value, (list, tuple)):
            return [self.mapped(one) for one in value]
        return self.label_map.get(str(value), value) if self.label_map else value

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        texts = [require_text(self.rows, number, row, name) or "" for name in self.texts]
        item: Any = texts[0] if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]}
        cell = self.mapped(row.get(self.label))
        if isinstance(cell, str) and not cell.strip():
            raise InvalidInput(f"{self.rows.subject(number)} has an empty {self.label}, which is no label.")
        return item, self.labels.read(self.rows, number, {**row, self.label: cell}, self.label)

    def text(self, case: Case) -> str:
        return case.input if isinstance(case.input, str) else " / ".join(case.input.values())

    def probabilities(self, cases: Sequence[Case]) -> Array:
        """Return the score of each label (cases, labels), NaN for a case without an answer."""
        names = {name: place for place, name in enumerate(self.labels.names)}
        table = np.full((len(cases), len(names)), np.nan)
        for line, case in zip(table, cases, strict=True):
            for label, score in self.label_scores(case.answer):
                line[names[label]] = score
        return table

    def label_scores(self, answer: Any) -> list[tuple[str, float]]:
        """Return label and score pairs of an answer, the chosen label first."""
        rows = answer if isinstance(answer, list) else [answer] if answer is not None else []
        return [(str(row["label"]), float(row["score"])) for row in rows]

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        table = self.probabilities(cases)
        expected = np.array([case.reference for case in cases])
        if self.labels.kind == REGRESSION:
            return score_numbers(table, expected)
        if self.labels.kind == MULTI_LABEL:
            least = np.array([self.thresholds.get(name, 0.5) for name in self.labels.names])
            return score_label_sets(table, expected, self.labels.names, least)
        names = self.labels.names
        first = [next(iter(self.label_scores(case.answer)), (None, np.nan))[0] for case in cases]
        predicted = np.array([-1 if label is None else names.index(label) for label in first])
        scored = score_labels(predicted, expected, table, names)
        self.add_abstention(scored, predicted)
        if numbered(self.rows, self.label, names) and not self.labels.classes:
            scored.notes.append(
                f"The rows number their labels; the numbers are taken in the model's order: "
                f"{', '.join(f'{place} is {name}' for place, name in enumerate(names[:8]))}."
            )
        return scored

    def add_abstention(self, scored: ScoredCases, predicted: Numbers) -> None:
        """Add the share of answers that reach their thresholds, and the accuracy of these."""
        if not self.thresholds or scored.confidence is None or scored.correct is None:
            return
        least = np.array([self.thresholds.get(self.labels.names[n], 0.0) if n >= 0 else np.inf for n in predicted])
        taken = np.nan_to_num(scored.confidence) >= least
        scored.measures += [
            Mean("coverage", bounds=UNIT, rows=taken.astype(float)),
            Mean("accuracy_answered", bounds=UNIT, rows=np.where(taken, scored.correct, np.nan)),
        ]
        scored.notes.append(
            "The model has thresholds below which it answers 'unknown': coverage is the share of other answers, "
            "accuracy_answered theirs. The other metrics are of the best label without thresholds."
        )


class ZeroShotScorer(ClassificationScorer):
    """Scores a choice among labels; without `candidate_labels`, among those that the rows have."""

    keys = ("text", "label")

    def prepare(self) -> None:
        super().prepare()
        self.options["candidate_labels"] = list(self.labels.names)

    def prepare_options(self) -> Mapping[str, float]:
        return {}

    def model_labels(self) -> Labels:
        given = self.options.get("candidate_labels") or self.pipe.defaults.get("candidate_labels")
        names = [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given or ())
        if not names:
            classes = self.rows.classes(self.label)
            cells = (self.mapped(row.get(self.label)) for row in self.rows)
            names = list(classes or sorted({str(cell) for cell in cells if not is_missing(cell) and str(cell).strip()}))
        if len(names) < 2:
            raise InvalidInput(
                f"zero-shot-classification chooses among labels, and {self.rows.name} has "
                f"{list_names(names) or 'none'} only. Name the labels: candidate_labels "
                "(--set candidate_labels=sport,politics)."
            )
        return labels_from_names(names).for_rows(self.rows, self.label)

    def label_scores(self, answer: Any) -> list[tuple[str, float]]:
        return [] if answer is None else list(zip(answer["labels"], answer["scores"], strict=True))


def numbered(rows: Any, column: str, names: Sequence[str]) -> bool:
    """Return whether rows spell labels as numbers that are no names, judged by the first row."""
    value = whole_number(rows[0].get(column))
    return value is not None and str(value) not in names and not is_nameless(names)


def score_labels(predicted: Numbers, expected: Numbers, table: Array, names: Sequence[str]) -> ScoredCases:
    """Score one label a case.

    Args:
        predicted: label numbers (cases,), -1 for no answer. expected: (cases,).
        table: probabilities (cases, labels).
    """
    count, answered = len(names), predicted >= 0
    correct = (predicted == expected).astype(float)
    confidence = np.where(answered, table[np.arange(len(table)), np.maximum(predicted, 0)], np.nan)
    measures = label_measures(predicted, expected, count)
    if count <= MAX_LABELS:
        measures.append(auroc(table, expected, count))
    measures.append(calibration_measure(confidence, correct))
    return ScoredCases(
        measures, severity_of(correct == 0, confidence), [names[n] for n in expected],
        [names[n] if n >= 0 else "(no answer)" for n in predicted], correct, confidence,
        confusion(predicted, expected, names) if count <= MAX_LABELS else None,
        label_scores(predicted, expected, names), one_label_note(expected, names),
    )  # fmt: skip


def one_label_note(expected: Numbers, names: Sequence[str]) -> list[str]:
    """Return a note if all rows have one label, so that some measures say nothing."""
    found = np.unique(expected)
    if len(found) > 1:
        return []
    return [
        f"All rows have the label {names[found[0]]}: accuracy is recall of this label only, AUROC is not defined, and "
        "Matthews' correlation is 0 by definition."
    ]


def auroc(table: Array, expected: Numbers, count: int) -> Measure:
    """Return AUROC of the second of two labels, or the mean of each label against the rest."""
    if count == 2:
        return Auroc("auroc", bounds=UNIT, scores=table[:, 1], positive=expected == 1)
    parts = tuple(Auroc(str(n), scores=table[:, n], positive=expected == n) for n in range(count))
    return MeanOf("auroc", bounds=UNIT, parts=parts)


def confusion(predicted: Numbers, expected: Numbers, names: Sequence[str]) -> Confusion:
    """Return counts of references and answers."""
    missing = bool((predicted < 0).any())
    columns = (*names, "(no answer)") if missing else tuple(names)
    counts = np.zeros((len(names), len(columns)), int)
    np.add.at(counts, (expected, np.where(predicted < 0, len(names), predicted)), 1)
    return Confusion(tuple(names), columns, counts.tolist())


def label_scores(predicted: Numbers, expected: Numbers, names: Sequence[str]) -> list[LabelScores]:
    """Return precision, recall and F1 of each label that occurs."""
    found = []
    for number, name in enumerate(names):
        hits = int(((predicted == number) & (expected == number)).sum())
        given, support = int((predicted == number).sum()), int((expected == number).sum())
        if given or support:
            found.append(label_row(name, hits, given, support))
    return found


def label_row(name: str, hits: int, given: int, support: int) -> LabelScores:
    """Return the scores of a label from its counts; NaN where they are undefined."""
    precision = hits / given if given else float("nan")
    recall = hits / support if support else float("nan")
    return LabelScores(name, precision, recall, 2 * hits / (given + support), support)


def score_label_sets(table: Array, expected: Array, names: Sequence[str], least: Any = 0.5) -> ScoredCases:
    """Score several labels a case, those of probabilities from `least`; a case without an answer has no label."""
    answered = np.array([not np.isnan(line).any() for line in table])
    given = (np.nan_to_num(table) >= least) & answered[:, None]
    right = np.asarray(expected > 0.5)
    exact = ((given == right).all(1) & answered).astype(float)
    statistics = np.concatenate([given & right, given, right], axis=1).astype(float)
    parts = tuple(Auroc(name, scores=table[:, n], positive=right[:, n]) for n, name in enumerate(names))
    measures: list[Measure] = [
        OfSums("f1_micro", bounds=UNIT, statistics=statistics, function=micro_f1),
        OfSums("f1_macro", bounds=UNIT, statistics=statistics, function=all_macro_f1),
        Mean("accuracy", bounds=UNIT, rows=exact),
        MeanOf("auroc", bounds=UNIT, parts=parts),
    ]
    labels = [
        label_row(name, int((given & right)[:, n].sum()), int(given[:, n].sum()), int(right[:, n].sum()))
        for n, name in enumerate(names)
        if given[:, n].any() or right[:, n].any()
    ]
    surest = np.abs(np.nan_to_num(table, nan=0.5) - right).max(1)  # how sure the most wrong label is
    sets = [
        [", ".join(name for name, own in zip(names, line, strict=True) if own) or "(none)" for line in side.tolist()]
        for side in (right, given)
    ]
    shown = [text if ok else "(no answer)" for text, ok in zip(sets[1], answered.tolist(), strict=True)]
    return ScoredCases(measures, severity_of(exact == 0, surest), sets[0], shown, exact, labels=labels)


def score_numbers(table: Array, expected: Array) -> ScoredCases:
    """Score the numbers of each case, in the mean over them; cases without an answer do not count."""
    given, right = table.reshape(len(table), -1), expected.reshape(len(table), -1).astype(float)
    error = ((given - right) ** 2).mean(1)
    measures: list[Measure] = [
        *(mean_correlation(name, given, right, ranks=name == "spearman") for name in ("pearson", "spearman")),
        Mean("mse", bounds=(0.0, np.inf), rows=error),
    ]
    expected_text, given_text = ([", ".join(f"{n:.4g}" for n in line) for line in side] for side in (right, given))
    return ScoredCases(
        measures, np.where(error > 0, np.sqrt(error), np.nan), expected_text,
        ["(no answer)" if np.isnan(gap) else text for gap, text in zip(error, given_text, strict=True)],
    )  # fmt: skip


def mean_correlation(name: str, given: Array, right: Array, *, ranks: bool) -> Measure:
    """Return the correlation of numbers (cases, k), in the mean over the k numbers of a case."""
    parts = tuple(
        Correlation(name, bounds=(-1.0, 1.0), first=one, second=other, ranks=ranks)
        for one, other in zip(given.T, right.T, strict=True)
    )
    return parts[0] if len(parts) == 1 else MeanOf(name, bounds=(-1.0, 1.0), parts=parts)
