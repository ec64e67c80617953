"""Stream of inputs to stream of answers.

Inputs are read ahead by windows. Within a window they are sorted into batches; answers come in the order of the inputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Protocol

from torch import nn

from ..errors import (
    ChatTemplateError,
    InvalidInput,
    MemoryFull,
    MultiheadError,
    NoContinuation,
    ScoresNotFinite,
    TextTooLong,
)
from ..nn.modes import evaluating
from .answers import Failure, Metadata, WithNotices

CHARACTERS = 256_000  # of a window: enough for batches of similar lengths, little enough to hold
PATIENCE = 0.25  # seconds in which a window is read; inputs that came by then are answered
PER_INPUT_ERRORS = (ScoresNotFinite, NoContinuation, TextTooLong, MemoryFull)  # another input may not meet them
GROWTH = 16  # factor between windows while a stream does not make the reader wait


@dataclass(frozen=True)
class ModelInput:
    """Sequence for the model. An item may need several.

    Args:
        ids: token ids. token_types: of each token; None if all are 0. note: data that the pipeline wants back.
        number: of its item in the stream, where the pipeline asks for it.
    """

    ids: Sequence[int]
    token_types: Sequence[int] | None = None
    note: Any = None
    number: int | None = None


Preprocessed = list[ModelInput] | MultiheadError  # model inputs of one item, or its error


def join_inputs(parts: Sequence[Preprocessed]) -> Preprocessed:
    """Return the model inputs of all parts in one list, or the first error."""
    inputs: list[ModelInput] = []
    for part in parts:
        if isinstance(part, MultiheadError):
            return part
        inputs += part
    return inputs


class BatchPipeline(Protocol):
    """The steps of a pipeline that `stream_answers` calls. `options` are those of the call."""

    window: int  # items of a window at most
    numbers_inputs: bool  # model inputs know the number of their item

    @property
    def model(self) -> nn.Module: ...

    def validate(self, item: Any, options: Any, /) -> Any: ...

    def check_empty(self, item: Any, options: Any, /) -> None: ...

    def check_unknown(self, item: Any, inputs: Sequence[ModelInput], options: Any, /) -> Sequence[str]: ...

    def preprocess(self, items: Sequence[Any], options: Any, /) -> Sequence[Preprocessed]: ...

    def forward(self, inputs: Sequence[ModelInput], options: Any, /) -> Sequence[Any]: ...

    def postprocess(self, item: Any, inputs: Any, outputs: Any, options: Any, /) -> Any: ...


@dataclass
class Window:
    """Items that are answered together. `items[i]` is valid and has `inputs[i]`, or a failure in their place.

    Args:
        notices: number of an item in the window -> facts that a user must know.
    """

    items: list[Any] = field(default_factory=list)
    inputs: list[list[ModelInput] | Failure] = field(default_factory=list)
    notices: dict[int, Sequence[str]] = field(default_factory=dict)


def stream_answers(
    pipe: BatchPipeline,
    items: Iterator[Any],
    options: Any,
    metadata: Metadata,
    *,
    strict: bool,
    live: bool,
    in_memory: bool = False,
    first: int = 0,
) -> Iterator[Any]:
    """Yield the answer to each item, in order; with strict=False a `Failure` for one that cannot be answered.

    While one window is computed, a thread reads and tokenizes the next one. It starts only after a full window came
    without waiting; until then a window is answered before the next item is asked for.

    Args:
        live: items may make the reader wait, so the first windows are small. in_memory: items never make it wait, so
            no clock has a part in how they are cut. first: number of the first item.

    Raises:
        Errors of the source of items, after the answers to the items before.
    """
    chunks = chunk_stream(items, pipe.window, live, math.inf if in_memory else PATIENCE)
    chunk = next(chunks, END)
    with ThreadPoolExecutor(1, thread_name_prefix="multihead-tokenize") as worker:
        window = prepare_window(pipe, first, chunk.items, options)
        while window.items:
            begin, first = first, first + len(window.items)
            ahead: Future[Window] | None = None
            if chunk.steady:
                chunk = next(chunks, END)
                ahead = worker.submit(prepare_window, pipe, first, chunk.items, options)
            window = until_failure(window) if strict else window
            for answer in answer_window(pipe, window, begin, options, metadata):
                if strict and isinstance(answer, Failure):
                    raise answer.error
                yield answer
            if ahead is None:
                chunk = next(chunks, END)
                window = prepare_window(pipe, first, chunk.items, options)
            else:
                window = ahead.result()
    if chunk.error is not None:
        raise chunk.error


def until_failure(window: Window) -> Window:
    """Return the window up to its first failure, after which no answer is wanted."""
    stop = next((n for n, inputs in enumerate(window.inputs, 1) if isinstance(inputs, Failure)), None)
    return Window(window.items[:stop], window.inputs[:stop], window.notices)


@dataclass(frozen=True)
class StreamChunk:
    """Items of a stream that make one window.

    Args:
        steady: the window became full without waiting. error: raised by the stream instead of more items.
    """

    items: Sequence[Any] = ()
    steady: bool = False
    error: Exception | None = None


END = StreamChunk()


def chunk_stream(items: Iterator[Any], most: int, live: bool, patience: float = PATIENCE) -> Iterator[StreamChunk]:
    """Cut a stream after `most` items, `CHARACTERS` characters of text or `patience` seconds of waiting.

    The first window of a live stream has one item. After a window without waiting, the next one has `GROWTH` times as
    many items; after a wait, as many as came.
    """
    size = 1 if live else most
    while True:
        window: list[Any] = []
        total, start, late = 0, time.perf_counter(), False
        error: Exception | None = None
        try:
            for item in islice(items, size):
                window.append(item)
                total += count_characters(item)
                late = time.perf_counter() - start > patience
                if late or total >= CHARACTERS:
                    break
        except Exception as raised:  # of the source: items before it are answered first
            error = raised
        if error is not None:
            if window:
                yield StreamChunk(window)
            yield StreamChunk(error=error)
        if not window or error is not None:
            return
        yield StreamChunk(window, not late and (len(window) == most or total >= CHARACTERS))
        size = len(window) if late else min(GROWTH * size, most)


def strings_of(item: Any) -> Iterator[str]:
    """Yield all strings in an item, keys of mappings included."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        yield from chain.from_iterable(map(strings_of, chain(item, item.values())))
    elif isinstance(item, (list, tuple)):
        yield from chain.from_iterable(map(strings_of, item))


def count_characters(item: Any) -> int:
    """Return the number of characters of all strings in an item."""
    return sum(map(len, strings_of(item)))


def check_unicode(item: Any) -> None:
    """Raise InvalidInput for a string with half of a surrogate pair, which no tokenizer reads."""
    for text in strings_of(item):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"has {text[error.start]!a} at character {error.start}, which is no character alone: half of one, or a "
                "byte that is no UTF-8. Write the text again, or leave it out."
            ) from None


def prepare_window(pipe: BatchPipeline, first: int, items: Sequence[Any], options: Any) -> Window:
    """Validate and preprocess a window whose first item has the number `first`."""
    window, numbered = Window(), pipe.numbers_inputs
    for number, item in enumerate(items, first):
        try:
            if isinstance(item, MultiheadError):  # a row that could not be read
                raise item
            check_unicode(item)
            valid_item = pipe.validate(item, options)
            pipe.check_empty(valid_item, options)
            window.items.append(valid_item)
            window.inputs.append([])
        except (InvalidInput, ChatTemplateError) as error:
            window.items.append(None)
            window.inputs.append(make_failure(number, error))
    valid = [index for index, inputs in enumerate(window.inputs) if not isinstance(inputs, Failure)]
    preprocessed = pipe.preprocess([window.items[index] for index in valid], options) if valid else []
    for index, known in zip(valid, preprocessed, strict=True):
        try:
            if isinstance(known, MultiheadError):
                raise known
            window.notices[index] = pipe.check_unknown(window.items[index], known, options)
            window.inputs[index] = [replace(each, number=first + index) for each in known] if numbered else known
        except MultiheadError as error:
            window.inputs[index] = make_failure(first + index, error)
    return window


def make_failure(number: int, error: MultiheadError) -> Failure:
    """Return the failure of one input, whose error names the input."""
    text = str(error)
    named = type(error)(f"Input {number}{' ' if text[:1].islower() else ': '}{text}")
    named.__cause__ = error.__cause__
    return Failure(number, named)


def answer_window(pipe: BatchPipeline, window: Window, first: int, options: Any, metadata: Metadata) -> Iterator[Any]:
    """Compute a window whose first item has the number `first`. Yields an answer or a failure an item."""
    return postprocess_window(
        pipe, window, first, forward_items(pipe, valid_inputs(window), options), options, metadata
    )


def valid_inputs(window: Window) -> list[list[ModelInput]]:
    """Return the model inputs of each item of a window that has some."""
    return [inputs for inputs in window.inputs if not isinstance(inputs, Failure)]


def postprocess_window(
    pipe: BatchPipeline, window: Window, first: int, all_outputs: Iterator[Any], options: Any, metadata: Metadata
) -> Iterator[Any]:
    """Yield an answer or a failure for each item of a window whose first item has the number `first`.

    Args:
        all_outputs: of the items that have no failure: the outputs of the model inputs of each, or its error.
    """
    metadata.add_tokens(sum(len(each.ids) for inputs in valid_inputs(window) for each in inputs))
    for number, (item, inputs) in enumerate(zip(window.items, window.inputs, strict=True), first):
        notices = window.notices.get(number - first, ())
        metadata.set_row_notices(number, ())
        if isinstance(inputs, Failure):
            yield inputs
            continue
        outputs = next(all_outputs)
        error = outputs if isinstance(outputs, MultiheadError) else first_error(outputs)
        try:
            answer: Any = None if error is not None else pipe.postprocess(item, inputs, outputs, options)
        except InvalidInput as invalid:
            answer, error = None, invalid
        if isinstance(answer, WithNotices):
            notices = (*notices, *answer.notices)
            answer = answer.answer
        if error is None:
            metadata.set_row_notices(number, notices)
            metadata.add_answer()
        yield answer if error is None else make_failure(number, error)


def forward_items(pipe: BatchPipeline, items: Sequence[Sequence[ModelInput]], options: Any) -> Iterator[Any]:
    """Yield the outputs of each item's model inputs.

    If the forward pass fails for several items, each is computed alone and yields its own error.
    """
    try:
        with evaluating(pipe.model):
            outputs = iter(pipe.forward([each for inputs in items for each in inputs], options) if items else [])
    except PER_INPUT_ERRORS as error:
        if len(items) == 1:
            yield error
            return
        for inputs in items:
            yield from forward_items(pipe, [inputs], options)
        return
    for inputs in items:
        yield [next(outputs) for _ in inputs]


def first_error(outputs: Sequence[Any]) -> MultiheadError | None:
    """Return the first output that is an error, if any."""
    return next((each for each in outputs if isinstance(each, MultiheadError)), None)
