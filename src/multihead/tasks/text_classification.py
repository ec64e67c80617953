"""text-classification: a label for each text, by a trained head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .task import Task, batches, check_room, texts_of


class TextClassification(Task):
    """Labels texts with a sequence classifier."""

    auto = "AutoModelForSequenceClassification"

    def __call__(self, inputs: str | Sequence[str], *, top_k: int | None = 1, truncation: bool = False) -> Any:
        """`[{"label": ..., "score": ...}]`; all labels with top_k=None, as lists for several texts.

        Scores are probabilities: of a sigmoid for several labels at once or a single one, else of a softmax; for a
        regression, the numbers themselves.

        Raises:
            InvalidInput: an input that is no string. TextTooLong: without truncation, more tokens than positions.
        """
        texts, single = texts_of(inputs)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        encoded = self.tokenizer(
            texts, truncation=truncation and limit is not None, max_length=limit if truncation else None
        )
        ids, lengths = encoded["input_ids"], [len(text) for text in encoded["input_ids"]]
        check_room(lengths, limit)
        answers: list[list[dict[str, Any]]] = [[]] * len(texts)
        names = self.model.config.id2label or {}
        for numbers in batches(lengths):
            with torch.inference_mode():
                scores = self._shares(self.model.run([ids[number] for number in numbers]).scores.float())
            for number, row in zip(numbers, scores.tolist(), strict=True):
                ranked = sorted(enumerate(row), key=lambda pair: -pair[1])[:top_k]
                answers[number] = [{"label": names.get(i, f"LABEL_{i}"), "score": p} for i, p in ranked]
        if top_k == 1:
            return [answer[0] for answer in answers]
        return answers[0] if single else answers

    def _shares(self, scores: torch.Tensor) -> torch.Tensor:
        kind = self.model.config.problem_type
        if kind == "regression":
            return scores
        if kind == "multi_label_classification" or scores.shape[1] == 1:
            return scores.sigmoid()
        return scores.softmax(-1)
