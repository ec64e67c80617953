"""Scorers of sentence-similarity (correlations) and text-ranking (recall, MRR, nDCG)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ...training.data.columns import is_missing, require_column, require_text
from ...training.data.labels import finite_number, whole_number
from ...training.data.sentence_pairs import ANCHOR, LABEL, NEGATIVE, PAIRS, POSITIVE
from ...training.data.source import Row
from ..measures import Correlation, Measure, discounted_gain, means
from .base import Case, ScoredCases, Scorer

CUT = 10  # documents of a ranking that count
DOCUMENTS = ("documents", "passages", "texts", "sentences")
RELEVANT = ("relevant", "labels", "grades", "relevance")


class SimilarityScorer(Scorer):
    """Scores the similarity of two sentences by its correlation with the rows' numbers."""

    keys = ("first", "second", "score")

    def prepare(self) -> None:
        pair = next((pair for pair in PAIRS if set(pair) <= set(self.rows.columns)), PAIRS[0])
        self.first = require_column(self.rows, self.columns.get("first"), [pair[0]], "first_column")
        self.second = require_column(self.rows, self.columns.get("second"), [pair[1]], "second_column")
        self.label = require_column(self.rows, self.columns.get("score"), LABEL, "score_column")

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        texts = [require_text(self.rows, number, row, name) for name in (self.first, self.second)]
        score = finite_number(row.get(self.label))
        if score is None:
            raise InvalidInput(f"{self.rows.subject(number)} has no number in {self.label}.")
        return {"source_sentence": texts[0], "sentences": [texts[1]]}, score

    def text(self, case: Case) -> str:
        return f"{case.input['source_sentence']} / {case.input['sentences'][0]}"

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        given = np.array([np.nan if case.answer is None else case.answer[0] for case in cases], dtype=float)
        right = np.array([case.reference for case in cases], dtype=float)
        measures: list[Measure] = [
            Correlation("pearson", bounds=(-1.0, 1.0), first=given, second=right),
            Correlation("spearman", bounds=(-1.0, 1.0), first=given, second=right, ranks=True),
        ]
        place, wanted = (share_of_ranks(side) for side in (given, right))
        gap = np.abs(place - wanted)
        notes = [] if len(np.unique(right)) > 1 else ["All rows have one score: a correlation is not defined."]
        return ScoredCases(
            measures, np.where(gap > 0, gap, np.nan),
            [f"{score:g} (above {share:.0%} of rows)" for score, share in zip(right, wanted, strict=True)],
            ["(failed)" if np.isnan(score) else f"{score:.3f} (above {share:.0%})"
             for score, share in zip(given, place, strict=True)], notes=notes,
        )  # fmt: skip


def share_of_ranks(values: Any) -> Any:
    """Return the share of the other values that are smaller, for each value; NaN for NaN."""
    known = values[~np.isnan(values)]
    smaller = np.searchsorted(np.sort(known), values, side="left") / max(len(known) - 1, 1)
    return np.where(np.isnan(values), np.nan, smaller)


class RankingScorer(Scorer):
    """Scores the order of the documents of a query.

    Rows have `query`, `documents` and `relevant` (numbers of the relevant documents, from 0), or `grades` (a number for
    each document); or `query`, `positive` and `negatives`.
    """

    keys = ("query", "documents", "relevant", "grades", "positive", "negatives")

    def prepare(self) -> None:
        self.query = require_column(self.rows, self.columns.get("query"), ANCHOR, "query_column")
        names = [name for name in self.rows.columns if name != self.query]
        self.documents = self.columns.get("documents") or next((name for name in DOCUMENTS if name in names), None)
        if self.documents is not None:
            given = self.columns.get("relevant") or self.columns.get("grades")
            self.relevant = require_column(self.rows, given, RELEVANT, "relevant_column")
            self.graded = "grades" in self.columns or (given is None and self.relevant != "relevant")
            return
        self.positive = require_column(
            self.rows, self.columns.get("positive"), [name for name in POSITIVE if name != self.query],
            "positive_column",
        )  # fmt: skip
        named = self.columns.get("negatives")
        self.negatives = [named] if named else [name for name in names if NEGATIVE.fullmatch(name)]
        if not self.negatives:
            raise InvalidInput(
                f"text-ranking needs documents that are not relevant: {self.rows.name} has no column of documents and "
                "none of negatives. Give query, documents and relevant, or query, positive and negatives."
            )

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        query = require_text(self.rows, number, row, self.query)
        if self.documents is None:
            positives = self.texts(number, row, self.positive)
            negatives = [text for name in self.negatives for text in self.texts(number, row, name, optional=True)]
            if not positives or not negatives:
                raise InvalidInput(f"{self.rows.subject(number)} needs a positive and a negative document.")
            documents, grades = [*positives, *negatives], [1.0] * len(positives) + [0.0] * len(negatives)
        else:
            documents = self.texts(number, row, self.documents)
            grades = self.grades(number, row, len(documents))
        return {"query": query, "documents": documents}, grades

    def texts(self, number: int, row: Row, name: str, *, optional: bool = False) -> list[str]:
        """Return the texts of a cell, one or a list. Raises InvalidInput."""
        value = row.get(name)
        if optional and (is_missing(value) or value == ""):
            return []
        found: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
        if not found or not all(isinstance(text, str) and text.strip() for text in found):
            raise InvalidInput(f"{self.rows.subject(number)} must have texts in {name}, not {str(value)[:60]!r}.")
        return found

    def grades(self, number: int, row: Row, count: int) -> list[float]:
        """Return the relevance of each document. Raises InvalidInput."""
        value = row.get(self.relevant)
        cells = list(value) if isinstance(value, (list, tuple)) else [value]
        if self.graded:
            found = [finite_number(cell) for cell in cells]
            if len(found) != count or any(grade is None or grade < 0 for grade in found):
                raise InvalidInput(f"{self.rows.subject(number)} must have {count} numbers from 0 in {self.relevant}.")
            return [float(grade or 0) for grade in found]
        places = [whole_number(cell) for cell in cells]
        if any(place is None or not 0 <= place < count for place in places):
            raise InvalidInput(
                f"{self.rows.subject(number)} must have numbers of documents from 0 to {count - 1} in {self.relevant}, "
                f"not {str(value)[:60]!r}."
            )
        return [float(place in places) for place in range(count)]

    def text(self, case: Case) -> str:
        return str(case.input["query"])

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        rows = [ranking_scores(case.answer, case.reference) for case in cases]
        names = ("accuracy@1", f"recall@{CUT}", f"mrr@{CUT}", f"ndcg@{CUT}")
        measures = means(1.0, **{name: [row[place] for row in rows] for place, name in enumerate(names)})
        first = np.array([row[0] for row in rows])
        reciprocal = np.array([row[2] for row in rows])
        texts = [best_documents(case) for case in cases]
        notes = [] if all(map(any, (case.reference for case in cases))) else [
            "Queries without a relevant document do not count."
        ]  # fmt: skip
        return ScoredCases(
            measures, np.where(first == 1, np.nan, 1 - np.nan_to_num(reciprocal, nan=1.0)),
            [right for right, _ in texts], [given for _, given in texts], first, notes=notes,
        )  # fmt: skip


def ranking_scores(answer: Any, grades: Sequence[float]) -> tuple[float, float, float, float]:
    """Return accuracy@1, recall, MRR and nDCG of one query; NaN without a relevant document, 0 without an answer.

    Documents of equal scores are ranked in the worst order, so that a model that scores all alike gets nothing.
    """
    if not any(grades):
        return (math.nan,) * 4
    if answer is None:
        return (0.0,) * 4
    scored = [(float(row["score"]), grades[row["corpus_id"]]) for row in answer]
    order = [grade for _, grade in sorted(scored, key=lambda pair: (-pair[0], pair[1]))]
    first = next((place for place, grade in enumerate(order, 1) if grade > 0), math.inf)
    total = sum(grade > 0 for grade in grades)
    ideal = discounted_gain(sorted(grades, reverse=True), CUT)
    return (
        float(first == 1), sum(grade > 0 for grade in order[:CUT]) / total, 1 / first if first <= CUT else 0.0,
        discounted_gain(order, CUT) / ideal,
    )  # fmt: skip


def best_documents(case: Case) -> tuple[str, str]:
    """Return the most relevant document of a query and the one that the model ranks first, as texts."""
    documents: Sequence[str] = case.input["documents"]
    right = documents[int(np.argmax(case.reference))]
    answer: Sequence[Mapping[str, Any]] = case.answer or ()
    return right, documents[answer[0]["corpus_id"]] if answer else "(failed)"
