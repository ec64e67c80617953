"""From a stream of inputs to a stream of answers: read ahead by windows, sorted within them, answered in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

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
from .answers import Failure, Metadata

if TYPE_CHECKING:
    from .base import Pipeline

CHARACTERS = 256_000  # of a window: enough that texts of alike length meet, little enough to hold
PATIENCE = 0.25  # seconds in which a window is read; what has come by then is answered
OF_A_TEXT = (ScoresNotFinite, NoContinuation, TextTooLong, MemoryFull)  # errors that another text may not meet
GROWTH = 16  # of windows while a stream keeps nobody waiting


@dataclass(frozen=True)
class Piece:
    """What the model reads in one go for an input, which may need several.

    Args:
        ids: of its tokens. segments: their types, None where all are 0. note: what the task wants back.
    """

    ids: Sequence[int]
    segments: Sequence[int] | None = None
    note: Any = None


@dataclass
class Window:
    """Inputs that are answered together: `items[i]`, accepted, needs `pieces[i]`; failures stand in their places."""

    items: list[Any] = field(default_factory=list)
    pieces: list[list[Piece] | Failure] = field(default_factory=list)


def answers(
    task: Pipeline, items: Iterator[Any], options: Any, metadata: Metadata, *, strict: bool, live: bool
) -> Iterator[Any]:
    """The answer to each item, in order; with strict=False a `Failure` where one cannot be answered.

    The next window is read and tokenized while one is computed, once items have proved to come without waiting; until
    then a window is answered before the next item is asked for.

    Args:
        live: whether items may keep one waiting, so that the first windows are small.

    Raises:
        Whatever the source of items raises, after the answers to those that came before.
    """
    cut = windows(items, task.window, live)
    begin, coming = 0, next(cut, END)
    with ThreadPoolExecutor(1, thread_name_prefix="multihead-tokenize") as worker:
        window = prepared(task, begin, coming.items, options)
        while window.items:
            first, begin = begin, begin + len(window.items)
            ahead: Future[Window] | None = None
            if coming.flows:
                coming = next(cut, END)
                ahead = worker.submit(prepared, task, begin, coming.items, options)
            window = up_to_failure(window) if strict else window
            for found in answered(task, window, first, options, metadata):
                if strict and isinstance(found, Failure):
                    raise found.error
                yield found
            if ahead is None:
                coming = next(cut, END)
                window = prepared(task, begin, coming.items, options)
            else:
                window = ahead.result()
    if coming.broken is not None:
        raise coming.broken


def up_to_failure(window: Window) -> Window:
    """The same up to the first input that cannot be answered: nothing after it is wanted."""
    stop = next((n for n, known in enumerate(window.pieces, 1) if isinstance(known, Failure)), None)
    return Window(window.items[:stop], window.pieces[:stop])


@dataclass(frozen=True)
class Cut:
    """Items of a stream that make a window.

    Args:
        flows: whether the window became full without waiting for them. broken: what the stream raised in their place.
    """

    items: Sequence[Any] = ()
    flows: bool = False
    broken: Exception | None = None


END = Cut()


def windows(items: Iterator[Any], most: int, live: bool) -> Iterator[Cut]:
    """Cuts a stream after `most` items, `CHARACTERS` characters of text or `PATIENCE` seconds of waiting.

    The first window of a live stream has one item; after each that came without waiting they have `GROWTH` times as
    many, after others as many as came.
    """
    size = 1 if live else most
    while True:
        window: list[Any] = []
        total, began, late = 0, time.perf_counter(), False
        broken: Exception | None = None
        try:
            for item in islice(items, size):
                window.append(item)
                total += characters(item)
                late = time.perf_counter() - began > PATIENCE
                if late or total >= CHARACTERS:
                    break
        except Exception as error:  # the source's own: what came before is answered first
            broken = error
        if broken is not None:
            if window:
                yield Cut(window)
            yield Cut(broken=broken)
        if not window or broken is not None:
            return
        yield Cut(window, not late and (len(window) == most or total >= CHARACTERS))
        size = len(window) if late else min(GROWTH * size, most)


def strings(item: Any) -> Iterator[str]:
    """All strings in an item, those that name others too."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        yield from chain.from_iterable(map(strings, chain(item, item.values())))
    elif isinstance(item, (list, tuple)):
        yield from chain.from_iterable(map(strings, item))


def characters(item: Any) -> int:
    """Characters of all strings in an item."""
    return sum(map(len, strings(item)))


def check_unicode(item: Any) -> None:
    """Raises InvalidInput for a string that is no text: with half of a surrogate pair, which no tokenizer reads."""
    for text in strings(item):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"has {text[error.start]!a} at character {error.start}, which is no character alone: half of one, or a "
                "byte that is no UTF-8. Write the text anew, or leave it out."
            ) from None


def prepared(task: Pipeline, begin: int, items: Sequence[Any], options: Any) -> Window:
    """Checks and tokenizes a window whose first item has the number `begin`."""
    window = Window()
    for number, item in enumerate(items, begin):
        try:
            if isinstance(item, MultiheadError):  # a row that could not even be read
                raise item
            check_unicode(item)
            window.items.append(task.accept(item, options))
            window.pieces.append([])
        except (InvalidInput, ChatTemplateError) as error:
            window.items.append(None)
            window.pieces.append(failure(number, error))
    good = [place for place, known in enumerate(window.pieces) if not isinstance(known, Failure)]
    found = task.pieces([window.items[place] for place in good], options) if good else []
    for place, pieces in zip(good, found, strict=True):
        window.pieces[place] = failure(begin + place, pieces) if isinstance(pieces, MultiheadError) else pieces
    return window


def failure(number: int, error: MultiheadError) -> Failure:
    """The error of one input, which then says which it was."""
    text = str(error)
    named = type(error)(f"Input {number}{' ' if text[:1].islower() else ': '}{text}")
    named.__cause__ = error.__cause__
    return Failure(number, named)


def answered(task: Pipeline, window: Window, begin: int, options: Any, metadata: Metadata) -> Iterator[Any]:
    """Computes a window whose first item has the number `begin`: an answer for each, or its failure."""
    good = [known for known in window.pieces if not isinstance(known, Failure)]
    found = computed(task, good, options)
    metadata.count(sum(len(piece.ids) for pieces in good for piece in pieces))
    for number, (item, known) in enumerate(zip(window.items, window.pieces, strict=True), begin):
        if isinstance(known, Failure):
            yield known
            continue
        said = next(found)
        wrong = said if isinstance(said, MultiheadError) else first_error(said)
        try:
            answer = None if wrong is not None else task.finish(item, known, said, options)
        except InvalidInput as error:
            wrong = error
        if wrong is None:
            metadata.answered()
        yield answer if wrong is None else failure(number, wrong)


def computed(task: Pipeline, each: Sequence[Sequence[Piece]], options: Any) -> Iterator[Any]:
    """What the model says of each item's pieces; where it fails at several, each is asked alone, and gets its error."""
    try:
        with evaluating(task.model):
            found = iter(task.compute([piece for pieces in each for piece in pieces], options) if each else [])
    except OF_A_TEXT as error:
        if len(each) == 1:
            yield error
            return
        for pieces in each:
            yield from computed(task, [pieces], options)
        return
    for pieces in each:
        yield [next(found) for _ in pieces]


def first_error(found: Sequence[Any]) -> MultiheadError | None:
    """The first of these that is an error."""
    return next((one for one in found if isinstance(one, MultiheadError)), None)
