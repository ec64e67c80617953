"""Log-probabilities of tokens: log-softmax of the model's own logits, before temperature, penalties and bans.

The log-softmax of a pass is computed once for all of its rows, and only the asked numbers leave the tensor.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from .engine.sequence import ForwardRequest, ForwardResult, GenerationSequence

PART = 256  # prompt tokens whose scores one pass computes: 256 rows of a vocabulary of 150,000 take 150 MB


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probability of a token.

    Args:
        top: the most likely tokens in its place with their log-probabilities, the best first.
    """

    logprob: float
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class LogprobsOptions:
    """Log-probabilities that a request asks for: how many of the most likely tokens each one names; None for none.

    Args:
        new: of new tokens. prompt: of the prompt's tokens but the first.
    """

    new: int | None = None
    prompt: int | None = None


NO_LOGPROBS = LogprobsOptions()


def token_logprobs(result: ForwardResult, token: int, count: int, row: int = 0) -> TokenLogprobs:
    """Return the log-probability of a token in one row of a result, with the `count` most likely tokens."""
    logprob, values, columns = result.token_logprobs(row, token, count)
    return TokenLogprobs(logprob, tuple(zip(columns[:count], values[:count], strict=False)))


def score_prompt(
    sequence: GenerationSequence, count: int
) -> Generator[list[ForwardRequest], list[ForwardResult], list[TokenLogprobs]]:
    """Read all tokens of a prompt but the last one, in parts; return the log-probabilities of all but the first.

    Nothing of a cached prefix is used, since the scores after all tokens are needed.
    """
    tokens, found, store = list(sequence.tokens), list[TokenLogprobs](), sequence.cached.store
    # keys that depend on the length of the text must be computed for the whole one
    last, part = (len(tokens), len(tokens)) if store.varies else (len(tokens) - 1, PART)
    for begin in range(0, last if len(tokens) > 1 else 0, part):
        end = min(begin + part, last)
        sequence.tokens = tokens[:end]
        (result,) = yield [ForwardRequest(sequence, end - begin)]
        following = enumerate(tokens[begin + 1 : end + 1])
        found += [token_logprobs(result, token, count, row) for row, token in following]
    sequence.crop(len(tokens) - 1)
    sequence.tokens = tokens
    return found
