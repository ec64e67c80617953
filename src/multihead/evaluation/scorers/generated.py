"""Scorers of generated text: summarization, translation, text2text-generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...errors import InvalidInput
from ...training.data.columns import is_missing, require_text
from ...training.data.seq2seq import Seq2SeqOptions, language_keys, source_and_target
from ...training.data.source import Row
from ...training.evaluation.text_metrics import CorpusStatistics, rouge_rows, translation_statistics
from ..measures import Array, Mean, Measure, OfSums, means
from .base import Case, ScoredCases, Scorer

PERCENT = (0.0, 100.0)


class TextScorer(Scorer):
    """Scores texts that a model generates from texts."""

    keys = ("source", "target", "source_lang", "target_lang")
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "rouge", "exact_match")

    def prepare(self) -> None:
        columns: dict[str, Any] = {
            f"{key}_column": self.columns[key] for key in ("source", "target") if key in self.columns
        }
        self.reading = Seq2SeqOptions(**columns, **self.languages())
        self.names = source_and_target(self.rows, self.reading)

    def languages(self) -> dict[str, Any]:
        """Return the languages of the rows, as far as the pipeline names them."""
        options = {**self.pipe.defaults, **self.options}
        found = {name: options.get(own) for name, own in (("source_lang", "src_lang"), ("target_lang", "tgt_lang"))}
        parts = self.pipe.task.split("_")
        if parts[0] == "translation" and len(parts) == 4:
            found = {"source_lang": found["source_lang"] or parts[1], "target_lang": found["target_lang"] or parts[3]}
        return {name: str(value) for name, value in found.items() if value}

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        names: tuple[str, ...] = self.names
        cells: Row = row
        value = row.get(names[0])
        if isinstance(value, Mapping):  # {"en": ..., "pt": ...}
            names = language_keys(self.rows, number, value, (self.reading.source_lang, self.reading.target_lang))
            cells = value
        source = cells.get(names[0])
        if isinstance(source, (list, tuple)):  # sentences
            cells = {**cells, names[0]: " ".join(map(str, source))}
        text = require_text(self.rows, number, cells, names[0]) or ""
        right = cells.get(names[1])
        targets = list(right) if isinstance(right, (list, tuple)) else [right]
        targets = [target for target in targets if not is_missing(target)]
        if not targets or not all(isinstance(target, str) and target.strip() for target in targets):
            raise InvalidInput(f"{self.rows.subject(number)} has no text in {names[1]}.")
        return text, targets

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        given = [generated_text(case.answer, case.input) for case in cases]
        right = [case.reference for case in cases]
        measures: list[Measure] = []
        severity = np.full(len(cases), np.nan)
        if "rouge" in self.metrics:
            rows = rouge_rows(given, right)
            measures += means(100.0, **{name: [row[name] for row in rows] for name in rows[0]})
            severity = 1 - np.array([row["rougeL"] for row in rows])
        if "bleu" in self.metrics:
            statistics = translation_statistics(given, right)
            measures += [corpus_measure(each) for each in statistics]
            severity = 1 - np.array([statistics[-1].score(row) / 100 for row in np.array(statistics[-1].rows)])
        exact = np.array([text.strip() in [t.strip() for t in own] for text, own in zip(given, right, strict=True)])
        if "exact_match" in self.metrics:
            measures += means(100.0, exact_match=exact)
        return ScoredCases(
            measures, np.where(exact, np.nan, severity), [" | ".join(own) for own in right],
            [text or "(empty)" for text in given], None,
        )  # fmt: skip


class SummaryScorer(TextScorer):
    """Scores summaries by ROUGE, and their length."""

    metrics = ("rouge",)

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        scored = super().score(cases)
        words = np.array([len(generated_text(case.answer, case.input).split()) for case in cases], dtype=float)
        scored.measures.append(Mean("words", bounds=(0.0, np.inf), rows=words))
        return scored


class TranslationScorer(TextScorer):
    """Scores translations by BLEU and chrF."""

    metrics = ("bleu", "chrf")


def corpus_measure(statistics: CorpusStatistics) -> Measure:
    """Return BLEU or chrF as a measure of the sums of its counts."""
    return OfSums(statistics.name, bounds=PERCENT, statistics=np.asarray(statistics.rows, dtype=float),
                  function=each_row(statistics.score))  # fmt: skip


def each_row(function: Callable[[Any], float]) -> Callable[[Array], Array]:
    """Return a function of sums (resamples, k) from one of a single line of sums."""
    return lambda sums: np.array([function(line) for line in np.rint(sums)])


def generated_text(answer: Any, source: Any = "") -> str:
    """Return the text of an answer of a generating pipeline, without a prompt; "" without an answer."""
    row = answer[0] if isinstance(answer, list) and answer else answer
    if not row:
        return ""
    text = next(iter(row.values()))
    if isinstance(text, list):  # a conversation
        return str(text[-1].get("content", ""))
    return str(text)
