"""Answers of pipelines: plain lists and dicts with metadata on the model, its precision and the work done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import MultiheadError


@dataclass
class Metadata:
    """Facts on one call of a pipeline.

    Attributes:
        precision: of the computation, such as "bfloat16" or "int8".
        note: why a default model was chosen; empty in most calls.
        adapter: source of the adapters that changed the model; empty without any.
        inputs: number of inputs answered so far. tokens: number of tokens read, without padding.
        seconds: time since the call began.
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
    _start: float = field(default_factory=time.perf_counter, repr=False)

    def add_tokens(self, tokens: int) -> None:
        self.tokens += tokens
        self.seconds = time.perf_counter() - self._start

    def add_answer(self) -> None:
        self.inputs += 1
        self.seconds = time.perf_counter() - self._start


class Answers(list[Any]):
    """List of answers with `metadata`."""

    metadata: Metadata


class Answer(dict[str, Any]):
    """Single answer with `metadata`."""

    metadata: Metadata


class AnswerStream(Iterator[Any]):
    """Iterator of answers in the order of the inputs. Its `metadata` grow with each answer."""

    def __init__(self, answers: Iterator[Any], metadata: Metadata) -> None:
        self.answers, self.metadata = answers, metadata

    def __next__(self) -> Any:
        return next(self.answers)


@dataclass(frozen=True)
class Failure:
    """Stands for the answer to an input that could not be answered: the input's number from 0, and the error."""

    number: int
    error: MultiheadError


def with_metadata(answer: Any, metadata: Metadata) -> Any:
    """Return a list or dict as `Answers` or `Answer` with metadata; anything else unchanged."""
    if not isinstance(answer, (list, dict)):
        return answer
    wrapped: Any = Answers(answer) if isinstance(answer, list) else Answer(answer)
    wrapped.metadata = metadata
    return wrapped
