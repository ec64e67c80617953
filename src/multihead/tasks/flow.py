"""From a stream of inputs to a stream of answers: read ahead by windows, sorted within them, answered in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ..errors import ChatTemplateError, InvalidInput, MultiheadError
from .answers import Failure, Metadata

if TYPE_CHECKING:
    from .task import Task

CHARACTERS = 256_000  # of a window: enough that texts of alike length meet, little enough to hold
PATIENCE = 0.25  # seconds in which a window is read; what has come by then is answered
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
    task: Task, items: Iterator[Any], options: Any, metadata: Metadata, *, strict: bool, live: bool
) -> Iterator[Any]:
    """The answer to each item, in order; with strict=False a `Failure` where one cannot be answered.

    The next window is read and tokenized while one is computed, once items have proved to come without waiting; until
    then a window is answered before the next item is asked for.

    Args:
        live: whether items may keep one waiting, so that the first windows are small.
    """
    cut = windows(items, task.window, live)
    begin, coming = 0, next(cut, END)
    with ThreadPoolExecutor(1, thread_name_prefix="multihead-tokenize") as worker:
        window = prepared(task, begin, coming.items, options)
        while window.items:
            begin += len(window.items)
            ahead: Future[Window] | None = None
            if coming.flows:
                coming = next(cut, END)
                ahead = worker.submit(prepared, task, begin, coming.items, options)
            yield from answered(task, window, options, metadata, strict)
            if ahead is None:
                coming = next(cut, END)
                window = prepared(task, begin, coming.items, options)
            else:
                window = ahead.result()


@dataclass(frozen=True)
class Cut:
    """Items of a stream that make a window; `flows` says that the window became full without waiting for them."""

    items: Sequence[Any] = ()
    flows: bool = False


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
        for item in islice(items, size):
            window.append(item)
            total += characters(item)
            late = time.perf_counter() - began > PATIENCE
            if late or total >= CHARACTERS:
                break
        if not window:
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


def prepared(task: Task, begin: int, items: Sequence[Any], options: Any) -> Window:
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


def answered(task: Task, window: Window, options: Any, metadata: Metadata, strict: bool) -> Iterator[Any]:
    """Computes a window. Raises the first failure's error, if strict."""
    for known in window.pieces if strict else ():
        if isinstance(known, Failure):
            raise known.error
    pieces = [piece for known in window.pieces if not isinstance(known, Failure) for piece in known]
    found = iter(task.compute(pieces, options) if pieces else [])
    metadata.count(sum(len(piece.ids) for piece in pieces))
    for item, known in zip(window.items, window.pieces, strict=True):
        if isinstance(known, Failure):
            yield known
        else:
            metadata.answered()
            yield task.finish(item, known, [next(found) for _ in known], options)
