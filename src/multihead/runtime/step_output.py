"""Result of one forward pass. Argmax and top-k are computed once per batch and cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import ScoresNotFinite
from ..kernels.ops import backend

NO_TOKEN = -1  # in place of a token, where all tokens are banned
NOT_FINITE = -2  # in place of a token, where a logit is NaN or infinite; minus infinity counts as finite, as bans are
LOGPROB_COUNTS = (1, 5, 20)  # most likely tokens that are found together with a token's log-probability
MAX_QUERIES = 4  # different queries that are computed for all rows of one output

NOT_FINITE_ERROR = (
    "The model's scores are no finite numbers, so no token can be chosen. Its weights are damaged, or the numbers that "
    "it computes with are too small for them: check the checkpoint, or load it with dtype='float32'."
)


class StepOutput:
    """Hidden states and logits of one forward pass, or of the last of several decode steps.

    Args:
        hidden_states: (tokens, width), of the last layer.
        logits: (rows, vocabulary) after each requested token, float32; None where no logits were requested.
        argmax: (steps, rows), what `argmax_tokens` gives of each step's logits, where a runner has computed it.
    """

    def __init__(self, hidden_states: Tensor, logits: Tensor | None, argmax: Tensor | None = None) -> None:
        self.hidden_states, self._logits, self._argmax = hidden_states, logits, argmax
        self._cache: dict[tuple[Any, ...], Any] = {}

    @property
    def logits(self) -> Tensor:
        assert self._logits is not None, "this pass was asked for no logits"
        return self._logits

    def check_finite(self, row: int, count: int) -> None:
        """Raise ScoresNotFinite if a logit of these rows is NaN or infinite."""
        if any(self._not_finite[row : row + count]):
            raise ScoresNotFinite(NOT_FINITE_ERROR)

    @cached_property
    def _not_finite(self) -> list[bool]:
        if self.steps:
            return [token == NOT_FINITE for token in self.steps[-1]]
        # (rows,); NaN is not below infinity, either
        return (~(self.logits.amax(-1) < torch.inf)).tolist()

    @cached_property
    def steps(self) -> list[list[int]]:
        """The argmax token of each row, for each decode step; empty where the runner has not computed it."""
        return [] if self._argmax is None else self._argmax.tolist()

    def argmax(self, row: int, count: int, banned: Sequence[int] = ()) -> list[int]:
        """Return the most likely token of each of `count` rows that is not banned; `NO_TOKEN` where all are."""
        if self.steps and not banned:
            return self.steps[-1][row : row + count]
        tokens, row = self.query(("argmax", *banned), row, count, lambda logits: argmax_tokens(logits, banned).tolist())
        return tokens[row : row + count]

    def top_logprobs(self, row: int, count: int, banned: Sequence[int]) -> tuple[list[float], list[int]] | None:
        """Return the highest log-probabilities of a row, best first, and their tokens, without those banned.

        None where no kernel computes them.
        """

        def compute(logits: Tensor) -> list[tuple[list[float], list[int]]] | None:
            top = backend(logits).top_k(logits, count, banned, log_probs=True)
            return None if top is None else list(zip(*(x.tolist() for x in top), strict=True))

        rows, row = self.query(("top_logprobs", count, *banned), row, 1, compute)
        return None if rows is None else rows[row]

    def token_logprobs(self, row: int, token: int, count: int) -> tuple[float, list[float], list[int]]:
        """Return a token's log-probability in a row, and at least `count` of the highest ones with their tokens."""
        width = self.logits.shape[1]
        # a few different numbers, so that requests share them
        count = min(next((n for n in LOGPROB_COUNTS if n >= count), count), width)
        (values, columns, sums), place = self.query(("logprobs", count), row, 1, lambda x: log_softmax_top(x, count))
        top, tokens = values[place], columns[place]
        if token in tokens:
            return top[tokens.index(token)], top, tokens
        return float(self.logits[row, token]) - sums[place], top, tokens

    def query(self, key: tuple[Any, ...], row: int, count: int, compute: Callable[[Tensor], Any]) -> tuple[Any, int]:
        """Return `compute` of the logits, and the row of the result that stands for `row`.

        The first few different keys are computed for all rows at once and cached, since the sequences of a batch tend
        to ask for the same thing. Later keys are computed for the `count` rows alone.
        """
        if key not in self._cache:
            if len(self._cache) == MAX_QUERIES:
                return compute(self.logits[row : row + count]), 0  # (count, vocabulary)
            self._cache[key] = compute(self.logits)
        return self._cache[key], row


def log_softmax_top(logits: Tensor, count: int) -> tuple[list[list[float]], list[list[int]], list[float]]:
    """Return the highest log-probabilities of logits (rows, vocabulary), their tokens, and each row's log-sum-exp."""
    top = backend(logits).top_k(logits, count, (), log_probs=True)
    values, tokens = logits.log_softmax(-1).topk(count, -1) if top is None else top  # (rows, count) each
    sums = logits.gather(1, tokens[:, :1]) - values[:, :1]  # (rows, 1)
    return values.tolist(), tokens.tolist(), sums.flatten().tolist()


def argmax_tokens(logits: Tensor, banned: Sequence[int] = ()) -> Tensor:
    """Return the most likely token of each row of logits (rows, vocabulary) that is not banned, (rows,).

    `NO_TOKEN` where all are banned, `NOT_FINITE` where a logit is NaN or infinite.
    """
    top = backend(logits).top_k(logits, 1, banned, log_probs=False)  # (rows, 1) each, or None
    values, tokens = mask_tokens(logits, banned).max(-1) if top is None else (x.flatten() for x in top)  # (rows,) each
    # NaN is not below infinity, so one comparison finds both
    return torch.where(values < torch.inf, torch.where(values == -torch.inf, NO_TOKEN, tokens), NOT_FINITE)


def mask_tokens(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Return logits (rows, vocabulary) with minus infinity at these tokens."""
    if not ids:
        return logits
    logits = logits.clone()  # (rows, vocabulary); other callers read the same logits
    logits[:, [token for token in ids if token < logits.shape[1]]] = -torch.inf
    return logits
