"""Scorer of token-classification: whole entities (IOB2) or the label of each word."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ...training.data.labels import labels_from_names, list_names, names_of
from ...training.data.source import Row
from ...training.data.token_classification import TokenClassificationOptions, columns, words_and_tags
from ...training.evaluation.metrics import ENTITY_PREFIXES
from ...training.optional_packages import optional
from ..measures import UNIT, Array, Measure, OfSums, divide, micro_f1
from .base import Case, ScoredCases, Scorer
from .classification import confusion, label_row, label_scores

NO_LABEL = "O"  # of a word that the model did not read


class TokenScorer(Scorer):
    """Scores the label of the first token of each word, as training does."""

    keys = ("words", "tags")
    takes_label_map = True

    def prepare(self) -> None:
        self.options |= {"is_split_into_words": True, "ignore_labels": [], "aggregation_strategy": "none"}
        named: dict[str, Any] = {f"{key}_column": name for key, name in self.columns.items()}
        own = TokenClassificationOptions(**named)
        self.names = columns(self.rows, own)
        self.labels = labels_from_names(names_of(self.pipe.model.config)).for_rows(self.rows, self.names[1] or "")
        self.check_tags()

    def check_tags(self) -> None:
        """Raise InvalidInput, naming both sets, if the rows have tags that the model does not have."""
        own = self.labels.names
        if wrong := [name for name in self.label_map.values() if name not in own]:
            raise InvalidInput(f"The label map leads to {wrong[0]!r}; the model's labels are {list_names(own)}.")
        found = set()
        for number, row in enumerate(self.rows):
            try:
                found |= {self.mapped(tag) for tag in words_and_tags(self.rows, number, row, self.names)[1]}
            except InvalidInput:
                continue  # is named when the row is read
        unknown = []
        for tag in found:
            try:
                self.labels.number(tag)
            except InvalidInput:
                unknown.append(str(tag))
        if unknown:
            raise InvalidInput(
                f"The column {self.names[1]} of {self.rows.name} has the labels {list_names(sorted(map(str, found)))}; "
                f"{self.pipe.model.name_or_path} has the labels {list_names(own)}. Say what {sorted(unknown)[0]!r} "
                f"means with --map {sorted(unknown)[0]}={own[0]} (label_map=), or correct the rows."
            )

    def mapped(self, tag: Any) -> Any:
        """Return a tag of the rows in the model's words, as far as the label map says so."""
        return self.label_map.get(str(tag), tag)

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        words, tags = words_and_tags(self.rows, number, row, self.names)
        if not words:
            raise InvalidInput(f"{self.rows.subject(number)} has no words.")
        return words, [self.labels.names[self.labels.number(self.mapped(tag))] for tag in tags]

    def text(self, case: Case) -> str:
        return " ".join(case.input)

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        pairs = [(word_labels(case), case.reference) for case in cases]
        unread = sum(label is None for given, _ in pairs for label in given)
        given = [[NO_LABEL if label is None else label for label in labels] for labels, _ in pairs]
        notes = [
            f"{unread:,} words were not read by the model (cut off, or without a token): they count as {NO_LABEL}."
        ]
        scored = score_tags(given, [list(right) for _, right in pairs], self.labels.names)
        scored.notes = notes if unread else []
        return scored


def word_labels(case: Case) -> list[str | None]:
    """Return the label of the first token of each word; None for a word without one."""
    begins = [0, *accumulate(len(word) + 1 for word in case.input)][:-1]
    labels: list[str | None] = [None] * len(begins)
    for token in case.answer or ():
        word = bisect_right(begins, token["start"]) - 1
        if labels[word] is None:
            labels[word] = str(token["entity"])
    return labels


def score_tags(given: list[list[str]], right: list[list[str]], names: Sequence[str]) -> ScoredCases:
    """Score the tags of each word: entities by seqeval's rules if the tags are of IOB2, and single words."""
    hits = np.array([sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(given, right, strict=True)])
    sizes = np.array([len(row) for row in right])
    accuracy = OfSums("accuracy", bounds=UNIT, statistics=np.stack([hits, sizes], 1).astype(float), function=ratio)
    wrong = np.where(hits < sizes, (sizes - hits).astype(float), np.nan)
    shown = [[" ".join(row) for row in side] for side in (right, given)]
    if not any(name.startswith(ENTITY_PREFIXES) for name in names):
        numbers = [np.array([names.index(tag) for row in side for tag in row]) for side in (given, right)]
        return ScoredCases(
            [accuracy], wrong, shown[0], shown[1], confusion=confusion(numbers[0], numbers[1], names),
            labels=label_scores(numbers[0], numbers[1], names),
        )  # fmt: skip
    found, expected = entities(given), entities(right)
    counts = np.array([[len(a & b), len(a), len(b)] for a, b in zip(found, expected, strict=True)], dtype=float)
    measures: list[Measure] = [
        OfSums("precision", bounds=UNIT, statistics=counts, function=precision),
        OfSums("recall", bounds=UNIT, statistics=counts, function=recall),
        OfSums("f1", bounds=UNIT, statistics=counts, function=micro_f1),
        accuracy,
    ]
    kinds = [Counter(kind for row in side for kind, *_ in row) for side in (found, expected)]
    both = Counter(kind for a, b in zip(found, expected, strict=True) for kind, *_ in a & b)
    labels = [label_row(kind, both[kind], kinds[0][kind], kinds[1][kind]) for kind in sorted(kinds[0] | kinds[1])]
    missed = np.array([len(a ^ b) for a, b in zip(found, expected, strict=True)], dtype=float)
    texts = [[", ".join(f"{kind} {first}-{last}" for kind, first, last in sorted(row, key=lambda e: e[1])) or "(none)"
              for row in side] for side in (expected, found)]  # fmt: skip
    return ScoredCases(
        measures, np.where(missed > 0, missed, np.nan), texts[0], texts[1], (missed == 0).astype(float), labels=labels
    )


def entities(rows: Sequence[Sequence[str]]) -> list[set[tuple[str, int, int]]]:
    """Return the entities of each row: (type, first word, last word), by the rules of conlleval."""
    seqeval = optional("seqeval.metrics.sequence_labeling", "seqeval", "scoring token classification")
    return [set(seqeval.get_entities(list(row))) for row in rows]


def ratio(sums: Array) -> Array:
    """Return the first of two sums over the second."""
    return divide(sums[:, 0], sums[:, 1])


def precision(sums: Array) -> Array:
    """Return hits over answers; 0 without answers, as seqeval."""
    return np.nan_to_num(divide(sums[:, 0], sums[:, 1]))


def recall(sums: Array) -> Array:
    """Return hits over references; 0 without references, as seqeval."""
    return np.nan_to_num(divide(sums[:, 0], sums[:, 2]))
