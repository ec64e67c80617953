"""Public import path of the metrics in `evaluation.text_metrics`."""

from .evaluation.text_metrics import question_answering, summarization, translation

__all__ = ["question_answering", "summarization", "translation"]
