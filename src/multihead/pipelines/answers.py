"""What a pipeline gives back: plain lists and dicts that also say which model made them, at which precision."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import MultiheadError


@dataclass
class Metadata:
    """Of one call.

    Attributes:
        precision: what the model computed in, such as "bfloat16" or "int8". inputs: how many have been answered.
        tokens: how many tokens were read for them, none of them padding. seconds: since the call began.
        adapter: where the adapters came from that changed the model; empty without any.
        note: what a reader should know of how the model was chosen; empty where nothing is to be said.
    """

    task: str
    model: str
    precision: str
    device: str
    note: str = ""
    adapter: str = ""
    inputs: int = 0
    tokens: int = 0
    seconds: float = 0.0
    _began: float = field(default_factory=time.perf_counter, repr=False)

    def count(self, tokens: int) -> None:
        self.tokens += tokens
        self.seconds = time.perf_counter() - self._began

    def answered(self) -> None:
        self.inputs += 1
        self.seconds = time.perf_counter() - self._began


class Answers(list[Any]):
    """A list of answers with `metadata`."""

    metadata: Metadata


class Answer(dict[str, Any]):
    """A single answer with `metadata`."""

    metadata: Metadata


class Stream(Iterator[Any]):
    """Answers as they come, in the order of the inputs, with `metadata` that grows."""

    def __init__(self, answers: Iterator[Any], metadata: Metadata) -> None:
        self.answers, self.metadata = answers, metadata

    def __next__(self) -> Any:
        return next(self.answers)


@dataclass(frozen=True)
class Failure:
    """In an answer's place: the input that could not be answered (counted from 0), and why."""

    number: int
    error: MultiheadError


def described(answer: Any, metadata: Metadata) -> Any:
    """A list or dict with its metadata; anything else as it is."""
    if not isinstance(answer, (list, dict)):
        return answer
    kept: Any = Answers(answer) if isinstance(answer, list) else Answer(answer)
    kept.metadata = metadata
    return kept
