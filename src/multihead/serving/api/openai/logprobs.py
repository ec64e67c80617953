"""Log-probabilities in the shapes of OpenAI and vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...generation.text import TokenInfo
from ...token_texts import TokenTexts

LEAST = -9999.0  # JSON has no infinity; a token that cannot come has this log-probability in OpenAI's answers
Top = Sequence[tuple[int, float]]


def finite(logprob: float | None) -> float:
    return LEAST if logprob is None or logprob < LEAST else logprob


def chat_logprobs(texts: TokenTexts, tokens: Sequence[TokenInfo], count: int) -> dict[str, Any]:
    """Return the `logprobs` of a chat choice. `count`: of the most likely tokens."""
    content = [
        {
            **one_token(texts, each.token, each.logprob),
            "top_logprobs": [one_token(texts, token, logprob) for token, logprob in each.top[:count]],
        }
        for each in tokens
    ]  # fmt: skip
    return {"content": content, "refusal": None}


def one_token(texts: TokenTexts, token: int, logprob: float | None) -> dict[str, Any]:
    return {"token": texts.text(token), "logprob": finite(logprob), "bytes": list(texts.bytes(token))}


def prompt_logprobs(
    texts: TokenTexts, prompt: Sequence[int], found: Sequence[tuple[float, Top]]
) -> list[dict[str, Any] | None]:
    """Return vLLM's `prompt_logprobs`: of each token, by id; null for the first one."""
    rows: list[dict[str, Any] | None] = [None]
    for token, (logprob, top) in zip(prompt[1:], found, strict=True):
        ranks = {one: rank for rank, (one, _) in enumerate(top, 1)}
        row = {token: logprob, **dict(top)}
        rows.append({
            str(one): {"logprob": finite(value), "rank": ranks.get(one), "decoded_token": texts.text(one)}
            for one, value in row.items()
        })  # fmt: skip
    return rows
