"""Likeliest spans from the start and end scores of a question-answering head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def best_spans(
    encoding: Any, scores: Tensor, side: int, null_token: int | None, most: int, longest: int
) -> tuple[list[tuple[int, int, float]], float]:
    """Return (first token, last token, score) of the best spans of a window, and the score of no answer.

    A score is the product of the probabilities of both ends, over all tokens of the context and the token that means no
    answer.

    Args:
        encoding: of the tokenizers library, a pair. scores: (tokens, 2), of starts and of ends.
        side: 0 or 1, the text of the pair that is the context. null_token: id of the token that means no answer.
        most: spans at most. longest: tokens of a span at most.
    """
    ids = torch.tensor(encoding.ids)
    context = torch.tensor([text == side for text in encoding.sequence_ids])
    null = torch.zeros_like(context) if null_token is None else (ids == null_token) & ~context
    probabilities = scores.masked_fill(~(context | null)[:, None], -10_000.0).softmax(0)
    none = float(probabilities[null].sum(0).prod()) if null.any() else 0.0
    positions = context.nonzero()[:, 0]
    if not len(positions):
        return [], none
    starts, ends = probabilities[positions, 0], probabilities[positions, 1]
    count = len(positions)
    products = torch.full((min(longest, count), count), -1.0)  # (tokens of a span - 1, its first token)
    for more in range(products.shape[0]):  # spans of more + 1 tokens
        products[more, : count - more] = starts[: count - more] * ends[more:]
    values, order = products.flatten().topk(min(most, int((products >= 0).sum())))
    spans = []
    for value, number in zip(values.tolist(), order.tolist(), strict=True):
        more, start = divmod(number, count)
        spans.append((int(positions[start]), int(positions[start + more]), value))
    return spans, none


def characters(encoding: Any, first: int, last: int, side: int, whole_words: bool) -> tuple[int, int]:
    """Return the characters (start, end) of a span in the context, widened to whole words if `whole_words`.

    A tokenizer without words leaves the span as it is.
    """
    if whole_words:
        words = encoding.token_to_word(first), encoding.token_to_word(last)
        if None not in words:
            bounds = encoding.word_to_chars(words[0], side), encoding.word_to_chars(words[1], side)
            if None not in bounds:
                return bounds[0][0], bounds[1][1]
    return encoding.offsets[first][0], encoding.offsets[last][1]
