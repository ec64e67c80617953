"""Scorer of decision: shares of right answers, and how well probabilities are calibrated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ...pipelines.decision.questions import CHOICE, PREDICATE, Question
from ...pipelines.decision.state import read_request
from ...training.data.columns import require_column
from ...training.data.source import Row
from ..measures import calibration_measure, means
from .base import Case, ScoredCases, Scorer, severity_of

COLUMNS = {"input": ["input", "text"], "questions": ["questions"], "answers": ["answers", "answer"]}


class DecisionScorer(Scorer):
    """Scores answers to typed questions.

    Rows have `input`, `questions` and `answers`: true or false for a predicate, the value of a choice, the label or the
    number of a level. Columns of text may hold them as JSON.
    """

    keys = tuple(COLUMNS)

    def prepare(self) -> None:
        self.names = {
            key: require_column(self.rows, self.columns.get(key), names, f"{key}_column")
            for key, names in COLUMNS.items()
        }

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        subject = self.rows.subject(number)
        item = {"input": row.get(self.names["input"]), "questions": from_json(row.get(self.names["questions"]))}
        try:
            questions = read_request(item).questions
        except InvalidInput as error:
            raise InvalidInput(f"{subject}: {error}") from error
        given = from_json(row.get(self.names["answers"]))
        answers = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(answers) != len(questions):
            raise InvalidInput(f"{subject} has {len(questions)} questions and {len(answers)} answers.")
        pairs = zip(questions, answers, strict=True)
        return item, [right_option(question, answer, subject) for question, answer in pairs]

    def text(self, case: Case) -> str:
        return str(case.input["input"])

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        rows = [[] if case.answer is None else list(map(best_option, case.answer["answers"])) for case in cases]
        right = np.array([
            np.mean([own[0] == wanted for own, wanted in zip(found, case.reference, strict=True)]) if found else 0.0
            for found, case in zip(rows, cases, strict=True)
        ])  # fmt: skip
        sure = np.array([min((p for _, p in found), default=np.nan) for found in rows])
        single = np.array([len(case.reference) == 1 for case in cases])
        correct = np.where(single | (right == 1) | (right == 0), right, np.nan)
        measures = means(1.0, accuracy=right)
        if single.all():
            measures.append(calibration_measure(sure, right))
        return ScoredCases(
            measures, severity_of(right < 1, sure), [show(case.reference) for case in cases],
            [show([value for value, _ in found]) if found else "(failed)" for found in rows], correct,
            sure if single.all() else None,
        )  # fmt: skip


def from_json(value: Any) -> Any:
    """Return the data of a JSON text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def right_option(question: Question, answer: Any, subject: str) -> Any:
    """Return the value of the option that a reference means. Raises InvalidInput if there is no such option."""
    for option in question.options:
        same = type(option.value) is type(answer) and option.value == answer
        named = question.type not in (PREDICATE, CHOICE) and option.text == answer
        if same or named:
            return option.value
    raise InvalidInput(f"{subject} has the answer {answer!r:.80}, which is no option of its question.")


def best_option(answer: Mapping[str, Any]) -> tuple[Any, float]:
    """Return the likeliest option of an answer and its probability."""
    if answer["type"] == PREDICATE:
        true = answer["probability"]
        return true > 0.5, max(true, 1 - true)
    best = max(answer["probabilities"], key=lambda row: row["probability"])
    return best["value"], best["probability"]


def show(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
