"""Likeliest spans from the start and end scores of a question-answering head, over all windows of a context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ContextScores:
    """Scores of the tokens of a context, each token once.

    Args:
        logits: (tokens, 2), of starts and of ends. places: (window, position in it) of each token.
        null: log-score of no answer, (2,); None if the model has no token for it.
    """

    logits: Tensor
    places: Sequence[tuple[int, int]]
    null: Tensor | None

    @classmethod
    def of(cls, encodings: Sequence[Any], scores: Sequence[Tensor], side: int, null_token: int | None) -> ContextScores:
        """Merge windows into one sequence of tokens.

        Scores of different windows are compared relative to each window's score of no answer, which a window without
        the answer was trained to prefer. A token of several windows has the mean of its scores, and its place where
        most of its neighbours are.

        Args:
            encodings: of the tokenizers library, the windows in their order. scores: (tokens, 2) of each window.
            side: 0 or 1, the text of the pair that is the context. null_token: id of the token that means no answer.
        """
        windows = [_context_positions(encoding, side) for encoding in encodings]
        found = [_null_logits(encoding, own, side, null_token) for encoding, own in zip(encodings, scores, strict=True)]
        nulls = [null for null in found if null is not None]
        relative = len(nulls) == len(found)
        if relative:
            scores = [own - null for own, null in zip(scores, nulls, strict=True)]
        begins = _window_begins([[e.offsets[p] for p in own] for e, own in zip(encodings, windows, strict=True)])
        count = max((begin + len(own) for begin, own in zip(begins, windows, strict=True)), default=0)
        total, seen = torch.zeros(count, 2), torch.zeros(count, 1)
        places, margins = [(0, 0)] * count, [-1] * count
        for number, (begin, own, logits) in enumerate(zip(begins, windows, scores, strict=True)):
            here = slice(begin, begin + len(own))
            total[here] += logits[own]
            seen[here] += 1
            for index, position in enumerate(own):
                margin = min(index, len(own) - 1 - index)
                if margin > margins[begin + index]:
                    places[begin + index], margins[begin + index] = (number, position), margin
        return cls(total / seen, places, torch.zeros(2) if relative else None)


def best_spans(
    context: ContextScores, most: int, longest: int, weights: Tensor | None = None
) -> tuple[list[tuple[int, int, float]], float]:
    """Return (first token, last token, log-score) of the best spans, and the log-score of no answer.

    A score is the product of the probabilities of both ends, over all tokens of the context and no answer.

    Args:
        most: spans at most. longest: tokens of a span at most. weights: (tokens,), log-weights of the places of tokens;
            a span has that of its first and last token, by halves.
    """
    logits = context.logits if weights is None else context.logits + weights[:, None] / 2
    total = (logits if context.null is None else torch.cat([context.null[None], logits])).logsumexp(0)
    none = -torch.inf if context.null is None else float((context.null - total).sum())
    count = len(logits)
    if not count:
        return [], none
    starts, ends = (logits - total).unbind(-1)
    sums = torch.full((min(longest, count), count), -torch.inf)  # (tokens of a span - 1, its first token)
    for more in range(sums.shape[0]):  # spans of more + 1 tokens
        sums[more, : count - more] = starts[: count - more] + ends[more:]
    values, order = sums.flatten().topk(min(most, int((sums > -torch.inf).sum())))
    spans = []
    for value, number in zip(values.tolist(), order.tolist(), strict=True):
        more, start = divmod(number, count)
        spans.append((start, start + more, value))
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


def span_characters(
    encodings: Sequence[Any], first: tuple[int, int], last: tuple[int, int], side: int, whole_words: bool
) -> tuple[int, int]:
    """Return the characters of a span whose ends are tokens at two places (window, position), as `characters` does."""
    (one, begin), (other, end) = first, last
    if one == other:
        return characters(encodings[one], begin, end, side, whole_words)
    start = characters(encodings[one], begin, begin, side, whole_words)[0]
    return start, characters(encodings[other], end, end, side, whole_words)[1]


def _context_positions(encoding: Any, side: int) -> list[int]:
    return [position for position, text in enumerate(encoding.sequence_ids) if text == side]


def _null_logits(encoding: Any, scores: Tensor, side: int, null_token: int | None) -> Tensor | None:
    """Return the log-scores (2,) of no answer in a window, or None if it has no token for it."""
    pairs = enumerate(zip(encoding.ids, encoding.sequence_ids, strict=True))
    positions = [n for n, (id, text) in pairs if null_token is not None and id == null_token and text != side]
    return scores[positions].logsumexp(0) if positions else None


def _window_begins(offsets: Sequence[Sequence[Any]]) -> list[int]:
    """Return the number of the first token of each window in the context, from the characters of its tokens.

    A window begins where the rest of the one before equals its own beginning.
    """
    begins: list[int] = []
    for number, own in enumerate(offsets):
        if number == 0:
            begins.append(0)
            continue
        before = offsets[number - 1]
        shift = next(n for n in range(1, len(before) + 1) if _continues(before, own, n))
        begins.append(begins[-1] + shift)
    return begins


def _continues(before: Sequence[Any], own: Sequence[Any], shift: int) -> bool:
    """Return whether the tokens of a window from number `shift` on are the first of the next window."""
    shared = len(before) - shift
    return shared <= len(own) and (
        not shared or (before[shift] == own[0] and list(before[shift:]) == list(own[:shared]))
    )
