"""Stopping criteria as classes: functions (ids, scores) -> whether each sequence ends, for `stopping_criteria`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, warn
from ..generation.stopping import completed_stop


class StoppingCriteria:
    """Base of criteria of one's own: `__call__(input_ids, scores, **kwargs)` returns a bool, or one for each row."""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """Return whether each sequence ends, (sequences,); a subclass must define it."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(input_ids, scores, **kwargs).")


def every_row(input_ids: Tensor, ended: bool) -> Tensor:
    return torch.full((input_ids.shape[0],), ended, dtype=torch.bool, device=input_ids.device)


class MaxLengthCriteria(StoppingCriteria):
    """Ends sequences of `max_length` tokens, the prompt included."""

    def __init__(self, max_length: int, max_position_embeddings: int | None = None) -> None:
        self.max_length, self.max_position_embeddings = max_length, max_position_embeddings

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Tensor:
        return every_row(input_ids, input_ids.shape[-1] >= self.max_length)


class MaxTimeCriteria(StoppingCriteria):
    """Ends all sequences `max_time` seconds after `initial_timestamp`, or after this object was made."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None) -> None:
        self.max_time = max_time
        self.initial_timestamp = time.time() if initial_timestamp is None else initial_timestamp

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Tensor:
        return every_row(input_ids, time.time() - self.initial_timestamp > self.max_time)


class EosTokenCriteria(StoppingCriteria):
    """Ends sequences whose last token is one of these."""

    def __init__(self, eos_token_id: int | Sequence[int] | Tensor) -> None:
        ids = eos_token_id.flatten().tolist() if isinstance(eos_token_id, Tensor) else eos_token_id
        self.eos_token_id = torch.tensor([ids] if isinstance(ids, int) else list(ids))

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Tensor:
        return torch.isin(input_ids[:, -1], self.eos_token_id.to(input_ids.device))


class StopStringCriteria(StoppingCriteria):
    """Ends sequences whose last token completes one of these strings, wherever in the token that is."""

    def __init__(self, tokenizer: Any, stop_strings: str | Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop_strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
        if not self.stop_strings or not all(self.stop_strings):
            raise InvalidInput("stop_strings are one string or several, none of them empty.")
        self.reach = max(len(text.encode()) for text in self.stop_strings) + 4  # tokens; each has a byte at least

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Tensor:
        ended = []
        for row in input_ids.tolist():
            tail = row[-self.reach :]
            before, after = self.tokenizer.decode(tail[:-1]), self.tokenizer.decode(tail)
            ended.append(completed_stop(before, after, self.stop_strings) is not None)
        return torch.tensor(ended, device=input_ids.device)


class StoppingCriteriaList(list[Any]):
    """Several criteria: a sequence ends where one of them ends it."""

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Tensor:
        done = every_row(input_ids, False)
        for criterion in self:
            done = done | criterion(input_ids, scores, **kwargs)
        return done

    @property
    def max_length(self) -> int | None:
        """The length of the first `MaxLengthCriteria`; None without one."""
        return next((one.max_length for one in self if isinstance(one, MaxLengthCriteria)), None)


def validate_stopping_criteria(stopping_criteria: Iterable[Any], max_length: int) -> StoppingCriteriaList:
    """Return criteria with one of this length, unless they have one; another length gives a warning."""
    found = StoppingCriteriaList(stopping_criteria)
    if found.max_length is None:
        found.append(MaxLengthCriteria(max_length))
    elif found.max_length != max_length:
        warn(f"The stopping criteria say max_length {found.max_length}, and {max_length} is asked for.")
    return found
