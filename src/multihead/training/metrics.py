"""Public import path of the metrics in `evaluation.metrics`."""

from .evaluation.metrics import (
    EvalPrediction,
    language_modeling,
    multi_label_classification,
    preference,
    regression,
    retrieval,
    sentence_similarity,
    text_classification,
    token_classification,
)

__all__ = [
    "EvalPrediction",
    "language_modeling",
    "multi_label_classification",
    "preference",
    "regression",
    "retrieval",
    "sentence_similarity",
    "text_classification",
    "token_classification",
]
