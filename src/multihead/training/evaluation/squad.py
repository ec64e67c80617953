"""SQuAD metrics (exact match and F1) from a model's scores of all windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...pipelines.question_answering.spans import ContextScores, best_spans, span_characters
from ..data.features import Features
from ..data.question_answering import QuestionAnsweringOptions, Questions, context_side, encode_windows
from ..data.source import CHUNK
from . import text_metrics

MAX_ANSWER_TOKENS = 30


def squad_metrics(
    features: Features, scores: Sequence[Any], tokenizer: Any, options: QuestionAnsweringOptions
) -> dict[str, float]:
    """Compute the SQuAD metrics of the best span of each question, or of `""` if no answer scores higher.

    Args:
        scores: start scores (tokens,) and end scores (tokens,) of each example.
    """
    assert features.rows is not None
    questions = Questions.of(features.rows, options)
    any_unanswered = any(not questions[row].answers for row in range(len(questions)))
    own: dict[int, list[Any]] = {}
    for number, row in enumerate(features.row.tolist()):
        own.setdefault(row, []).append(scores[number])
    predictions, references = [], []
    rows = sorted(own)
    for begin in range(0, len(rows), CHUNK):
        chunk = rows[begin : begin + CHUNK]
        batch = [questions[row] for row in chunk]
        encodings = encode_windows(batch, tokenizer, options, features.rows, chunk)
        for row, question, windows in zip(chunk, batch, encodings, strict=True):
            answer = _best_answer(question.context, windows, own[row], tokenizer, allow_none=any_unanswered)
            predictions.append(answer)
            references.append([words for _, words in question.answers])
    return text_metrics.question_answering(predictions, references)


def _best_answer(
    context: str, encodings: Sequence[Any], scores: Sequence[Any], tokenizer: Any, *, allow_none: bool
) -> str:
    """Return the answer with the highest score in all windows of a question, as the pipeline compares them."""
    side = context_side(tokenizer)
    logits = [torch.as_tensor(np.stack(own, -1)).float() for own in scores]
    merged = ContextScores.of(encodings, logits, side, tokenizer.cls_token_id)
    spans, none = best_spans(merged, 1, MAX_ANSWER_TOKENS)
    if not spans or (allow_none and none > spans[0][2]):
        return ""
    first, last, _ = spans[0]
    begin, end = span_characters(encodings, merged.places[first], merged.places[last], side, True)
    return context[begin:end]
