"""Exact match and F1 of extractive answers, from a model's scores of all windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...pipelines.spans import best_spans, characters
from ..data.features import Features
from ..data.question_answering import Options, Questions, context_side, windows
from ..data.source import CHUNK
from . import text_metrics

LONGEST = 30  # tokens of an answer


def answered(features: Features, scores: Sequence[Any], tokenizer: Any, options: Options) -> dict[str, float]:
    """SQuAD's measures of the likeliest span of each question, `""` where no answer is likelier.

    Args:
        scores: of each example, (tokens,) of the first token and (tokens,) of the last.
    """
    assert features.rows is not None
    questions = Questions.of(features.rows, options)
    any_unanswered = any(not questions[row].answers for row in range(len(questions)))
    own: dict[int, list[Any]] = {}
    for number, row in enumerate(features.row.tolist()):
        own.setdefault(row, []).append(scores[number])
    said, right = [], []
    rows = sorted(own)
    for begin in range(0, len(rows), CHUNK):
        chunk = rows[begin : begin + CHUNK]
        asked = [questions[row] for row in chunk]
        for row, question, encodings in zip(
            chunk, asked, windows(asked, tokenizer, options, features.rows, chunk), strict=True
        ):
            said.append(_best(question.context, encodings, own[row], tokenizer, may_be_none=any_unanswered))
            right.append([words for _, words in question.answers])
    return text_metrics.question_answering(said, right)


def _best(context: str, encodings: Sequence[Any], scores: Sequence[Any], tokenizer: Any, *, may_be_none: bool) -> str:
    side, null, found = context_side(tokenizer), 1.0, []
    for encoding, own in zip(encodings, scores, strict=True):
        token = tokenizer.cls_token_id
        spans, none = best_spans(encoding, torch.as_tensor(np.stack(own, -1)), side, token, 1, LONGEST)
        null = min(null, none)
        for first, last, score in spans:
            begin, end = characters(encoding, first, last, side, True)
            found.append((score, context[begin:end]))
    best = max(found, default=(0.0, ""))
    return "" if may_be_none and null > best[0] else best[1]
