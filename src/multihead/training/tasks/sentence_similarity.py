"""Training of sentence encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...adapters.state import make_trainable
from ...errors import InvalidInput
from ..data import sentence_pairs
from ..data.features import Features
from ..data.labels import Labels
from ..data.source import Rows
from ..evaluation import metrics
from ..evaluation.loop import EvaluationResult
from ..objectives.preference import AutoSentenceObjective
from ..objectives.token import Objective
from .dataset import DatasetJob


class SentenceSimilarityTraining(DatasetJob):
    """Sentence embeddings learned from matching texts, or from pairs with similarity scores."""

    name = "sentence-similarity"
    reader: ClassVar = sentence_pairs
    options_class, auto_class = sentence_pairs.SentencePairOptions, "SentenceEncoder"
    objective_options = ("loss", "scale")
    labels: Labels | None = None

    def needs_scores(self, arguments: Any) -> bool:
        return True

    def load_model(self, name: str, source: Any) -> Any:
        from ...sentences.encoder import SentenceEncoder

        encoder = SentenceEncoder.from_pretrained(name, dtype="float32", **self.loading_kwargs)
        if encoder.model.adapters is not None:
            make_trainable(encoder.model)
        return encoder

    def features(self, source: Any, *, training: bool, require_labels: bool = True) -> Features:
        features: Features = super().features(source, training=training, require_labels=require_labels)
        if training:
            self._check_scores(features)
        return features

    def _check_scores(self, features: Features) -> None:
        """Raise InvalidInput for scores that the loss does not read, or that are all equal."""
        name, scored = self.objective_kwargs.get("loss"), "labels" in features.columns
        texts = sum(column.startswith("input_ids") for column in features.columns)
        advice = "leave it out with ignore_columns=[...]"
        if scored and name == "contrastive":
            raise InvalidInput(
                "loss 'contrastive' brings the texts of every row together, whatever its score: keep the rows that "
                f"belong together and {advice}, or use 'cosent'."
            )
        if not scored and name not in (None, "contrastive"):
            raise InvalidInput(f"loss {name!r} needs a column of scores; there are {', '.join(features.read)}.")
        if not scored:
            return
        if texts > 2:
            raise InvalidInput(
                f"Rows have {texts} texts and a score. A score belongs to a pair, so the further texts would not be "
                "read. Leave them out, or the score: ignore_columns=[...]."
            )
        values = features.numbers["labels"]
        if name != "cosine" and values.size and values.min() == values.max():
            raise InvalidInput(
                f"All rows have the score {float(values[0]):g}, so that there is nothing to order. Where all are pairs "
                f"that belong together, {advice}; 'cosine' fits scores."
            )

    def prepare_features(self, source: Any, require_labels: bool) -> Features:
        rows = Rows.of(source)
        for known in (rows if source is self.source else self.source, rows):
            if self.labels is None and known is not None and not isinstance(known, Features):
                self.labels = sentence_pairs.labels_of(known, self.options)
        return sentence_pairs.prepare(rows, self.tokenizer, self.options, self.labels)

    def build_objective(self) -> Objective:
        return AutoSentenceObjective(self.model, **self.objective_kwargs)

    def metrics(self, features: Features, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        if "labels" not in features.columns:
            return {}
        return metrics.sentence_similarity(np.asarray(result.scores), np.asarray(result.targets, dtype=np.float64))

    def example_input(self, features: Features) -> dict[str, Any]:
        text = super().example_input(features)
        return {"source_sentence": text, "sentences": ["A first sentence.", "A second one."]}

    @property
    def reloads(self) -> bool:
        return False

    def _vocabulary(self) -> int:
        return int(self.model.model.get_input_embeddings().num_embeddings)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
