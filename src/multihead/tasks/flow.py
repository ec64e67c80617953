"""From a stream of inputs to a stream of answers: read ahead by windows, sorted within them, answered in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import ChatTemplateError, InvalidInput, MultiheadError
from .answers import Failure, Metadata

if TYPE_CHECKING:
    from .task import Task

CHARACTERS = 256_000  # of a window: enough that texts of alike length meet, little enough to hold


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


def answers(task: Task, items: Iterable[Any], options: Any, metadata: Metadata, *, strict: bool) -> Iterator[Any]:
    """The answer to each item, in order; with strict=False a `Failure` where one cannot be answered.

    While a window is computed, the next one is tokenized.
    """
    cut = windows(items, task.window)
    first = next(cut, None)
    if first is None:
        return
    second = next(cut, None)
    if second is None:
        yield from answered(task, prepared(task, 0, first, options), options, metadata, strict)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="multihead-tokenize") as worker:
        begin, window = len(first), prepared(task, 0, first, options)
        for following in chain([second], cut):
            ahead: Future[Window] = worker.submit(prepared, task, begin, following, options)
            yield from answered(task, window, options, metadata, strict)
            begin, window = begin + len(following), ahead.result()
        yield from answered(task, window, options, metadata, strict)


def windows(items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """Cuts a stream after `most` items or `CHARACTERS` characters of text."""
    window: list[Any] = []
    total = 0
    for item in items:
        window.append(item)
        total += characters(item)
        if len(window) == most or total >= CHARACTERS:
            yield window
            window, total = [], 0
    if window:
        yield window


def characters(item: Any) -> int:
    """Characters of all strings in an item."""
    if isinstance(item, str):
        return len(item)
    if isinstance(item, Mapping):
        return sum(map(characters, item.values()))
    return sum(map(characters, item)) if isinstance(item, (list, tuple)) else 0


def prepared(task: Task, begin: int, items: Sequence[Any], options: Any) -> Window:
    """Checks and tokenizes a window whose first item has the number `begin`."""
    window = Window()
    for number, item in enumerate(items, begin):
        try:
            if isinstance(item, MultiheadError):  # a row that could not even be read
                raise item
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
