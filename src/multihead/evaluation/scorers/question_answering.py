"""Scorers of answers about contexts, tables and documents: exact match, word F1 (SQuAD 2: arXiv:1806.03822)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ...training.data.columns import is_missing, require_column
from ...training.data.question_answering import ANSWERS, SUBJQA, QuestionAnsweringOptions, Questions
from ...training.data.source import Row
from ...training.evaluation.text_metrics import answer_scores
from ..measures import UNIT, Array, Auroc, calibration_measure, means
from .base import Case, ScoredCases, Scorer

NO_ANSWER = "(no answer)"


class QuestionScorer(Scorer):
    """Scores answers to questions about contexts; rows without an answer are unanswerable questions."""

    keys = ("question", "context", "answers", "start")

    def prepare(self) -> None:
        named: dict[str, Any] = {f"{key}_column": name for key, name in self.columns.items()}
        self.questions = Questions.of(self.rows, QuestionAnsweringOptions(**named))
        names = getattr(self.pipe.Options, "__dataclass_fields__", {})
        self.extractive = "handle_impossible_answer" in names
        if self.extractive and self.any_unanswerable():
            self.options = {"handle_impossible_answer": True, "no_answer": True, **self.options}

    def any_unanswerable(self) -> bool:
        """Return whether the rows have a question without an answer."""
        for number, row in enumerate(self.rows):
            try:
                if not self.right_answers(number, row):
                    return True
            except InvalidInput:
                continue  # is named when the row is read
        return False

    def right_answers(self, number: int, row: Row) -> list[str]:
        """Return the right answers of a row, of which none means that there is no answer."""
        if self.questions.start == SUBJQA:
            return [words for _, words in self.questions.read(number, row).answers]
        return [words for _, _, words in self.questions.spans(number, row)]

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        item = {"question": row.get(self.questions.question), "context": row.get(self.questions.context)}
        for key, value in item.items():
            if not isinstance(value, str) or not value.strip():
                raise InvalidInput(f"{self.rows.subject(number)} has no {key}.")
        if self.questions.start == SUBJQA:
            item["context"] = self.questions.read(number, row).context
        return item, self.right_answers(number, row)

    def text(self, case: Case) -> str:
        return str(case.input["question"])

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        best = [best_answer(case.answer) for case in cases]
        given = ["" if answer is None else str(answer["answer"]) for answer in best]
        failed = np.array([answer is None for answer in best])
        scored = score_answers(given, [case.reference for case in cases], failed)
        confidence = np.array([np.nan if a is None else a.get("score", np.nan) for a in best], dtype=float)
        add_confidence(scored, confidence)
        answerable = np.array([bool(case.reference) for case in cases])
        if not answerable.all() and answerable.any() and self.extractive:
            none = np.array([np.nan if a is None else a.get("no_answer", np.nan) for a in best], dtype=float)
            scored.measures.append(Auroc("no_answer_auroc", scores=none, positive=~answerable, bounds=UNIT))
        return scored


class TableScorer(Scorer):
    """Scores answers to questions about tables."""

    keys = ("table", "query", "answers")

    def prepare(self) -> None:
        self.table = require_column(self.rows, self.columns.get("table"), ("table",), "table_column")
        self.query = require_column(self.rows, self.columns.get("query"), ("query", "question"), "query_column")
        known = (*ANSWERS, "label", "target")
        self.right = require_column(self.rows, self.columns.get("answers"), known, "answers_column")

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        right = row.get(self.right)
        if is_missing(right):
            raise InvalidInput(f"{self.rows.subject(number)} has no {self.right}.")
        texts = [str(one) for one in right] if isinstance(right, (list, tuple)) else [str(right)]
        return {"table": row.get(self.table), "query": row.get(self.query)}, [", ".join(texts)]

    def text(self, case: Case) -> str:
        return str(case.input["query"])

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        given = ["" if case.answer is None else str(case.answer["answer"]) for case in cases]
        failed = np.array([case.answer is None for case in cases])
        return score_answers(given, [case.reference for case in cases], failed)


class DocumentScorer(Scorer):
    """Scores answers from documents, which a row or the option `documents` has; no right answer means none is there."""

    keys = ("question", "documents", "answers")

    def prepare(self) -> None:
        self.question = require_column(
            self.rows, self.columns.get("question"), ("question", "query"), "question_column"
        )
        self.documents = self.columns.get("documents", "documents")
        known = (*ANSWERS, "label", "target")
        self.right = require_column(self.rows, self.columns.get("answers"), known, "answers_column")

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        right = row.get(self.right)
        texts = [] if is_missing(right) else right if isinstance(right, (list, tuple)) else [right]
        item = {"question": row.get(self.question)}
        if row.get(self.documents) is not None:
            item["documents"] = row[self.documents]
        return item, [str(text) for text in texts]

    def text(self, case: Case) -> str:
        return str(case.input["question"])

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        given = ["" if case.answer is None else str(case.answer["answer"]) for case in cases]
        failed = np.array([case.answer is None for case in cases])
        return score_answers(given, [case.reference for case in cases], failed)


def best_answer(answer: Any) -> Mapping[str, Any] | None:
    """Return the likeliest of the answers to one question; None if there is none."""
    if isinstance(answer, Sequence):
        return answer[0] if answer else None
    return answer


def score_answers(given: Sequence[str], right: Sequence[Sequence[str]], failed: Any) -> ScoredCases:
    """Score answers, "" for no answer; a failed case is wrong, also where no answer is right."""
    rows = [answer_scores(answer, list(texts)) for answer, texts in zip(given, right, strict=True)]
    exact = np.array([row.exact_match for row in rows]) * ~failed
    f1 = np.array([row.f1 for row in rows]) * ~failed
    measures = means(100.0, exact_match=exact, f1=f1)
    answerable = np.array([row.has_answer for row in rows])
    if answerable.any() and not answerable.all():
        measures += means(
            100.0,
            has_answer_exact_match=np.where(answerable, exact, np.nan),
            has_answer_f1=np.where(answerable, f1, np.nan),
            no_answer_accuracy=np.where(answerable, np.nan, exact),
        )
    return ScoredCases(
        measures, np.where(f1 < 1, 1 - f1, np.nan),
        [" | ".join(dict.fromkeys(texts)) or NO_ANSWER for texts in right],
        ["(failed)" if bad else text or NO_ANSWER for text, bad in zip(given, failed, strict=True)], exact,
    )  # fmt: skip


def add_confidence(scored: ScoredCases, confidence: Array) -> None:
    """Add the calibration of answers with scores; among answers that are equally wrong the surest is the worst."""
    if np.isnan(confidence).all() or scored.correct is None:
        return
    scored.confidence = confidence
    scored.severity = scored.severity + np.nan_to_num(confidence)
    scored.measures.append(calibration_measure(confidence, scored.correct))
