"""Answers of pipelines: plain lists and dicts with metadata on the model, its precision and the work done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import MultiheadError

MAX_NOTICES = 1000  # that metadata keep; the others are counted


class Notice(NamedTuple):
    """Fact about the answer to one input that a user must know, such as a word that was not translated.

    Args:
        number: of the input, from 0.
    """

    number: int
    text: str


@dataclass(frozen=True)
class WithNotices:
    """Answer of `postprocess` with facts about it that a user must know. The pipeline returns the answer alone."""

    answer: Any
    notices: Sequence[str]


@dataclass
class Metadata:
    """Facts on one call of a pipeline.

    Attributes:
        precision: of the computation, such as "bfloat16" or "int8".
        note: why a default model was chosen; empty in most calls.
        adapter: source of the adapters that changed the model; empty without any.
        inputs: number of inputs answered so far. tokens: number of tokens read, without padding.
        seconds: time since the call began.
        notices: facts about single answers, the first 1,000. notice_count: number of all.
        row_notices: those of the last answer.
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
    notices: list[Notice] = field(default_factory=list)
    notice_count: int = 0
    row_notices: Sequence[str] = ()
    _start: float = field(default_factory=time.perf_counter, repr=False)

    def add_tokens(self, tokens: int) -> None:
        self.tokens += tokens
        self.seconds = time.perf_counter() - self._start

    def add_answer(self) -> None:
        self.inputs += 1
        self.seconds = time.perf_counter() - self._start

    def set_row_notices(self, number: int, notices: Sequence[str]) -> None:
        """Record the facts about the answer to an input, which are most often none."""
        self.row_notices = notices
        self.notice_count += len(notices)
        room = MAX_NOTICES - len(self.notices)
        self.notices += [Notice(number, text) for text in notices[:room]]


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
