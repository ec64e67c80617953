"""Texts of a command with their ids: arguments, rows of a file, lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from ..data_files import read
from ..errors import InvalidInput, MultiheadError, UnsupportedOption, nearest
from ..pipelines.batch_inference.columns import choose_columns
from .run import is_piped, stdin_lines

WINDOW = 4096  # lines of standard input that wait at most
TASK = "feature-extraction"  # by which the column of texts is guessed


@dataclass(frozen=True)
class TextRow:
    """A text of a command.

    Args:
        number: of the row from 0. id: its id, the number by default.
        text: a text, or the error that there is none. values: the row of the file, if it has columns.
    """

    number: int
    id: Any
    text: Any
    values: Mapping[str, Any] = field(default_factory=dict)


def read_rows(texts: Sequence[str], path: Path | None, column: str | None, id_column: str | None) -> Iterator[TextRow]:
    """Yield the texts of a command.

    Raises:
        InvalidInput: there are none, or there is no such column. UnsupportedOption: options that exclude each other.
    """
    if path is not None and texts:
        raise UnsupportedOption(f"Give texts or --file, not both: {path} and {texts[0][:60]!r}.")
    table = path is not None and path.suffix.lower() != ".txt"
    if (column or id_column) and not table:
        raise UnsupportedOption("--column and --id need a --file with columns; these inputs are lines of text.")
    if path is None and not texts and sys.stdin.isatty():
        raise InvalidInput("There are no texts: give some, --file, or lines on standard input (-).")
    if not table:
        lines: Iterable[Any] = read(path) if path is not None else stdin_lines() if is_piped(texts, path) else texts
        return (TextRow(number, number, line) for number, line in enumerate(lines))
    assert path is not None
    return table_rows(read(path), column, id_column)


def table_rows(rows: Iterable[Any], column: str | None, id_column: str | None) -> Iterator[TextRow]:
    """Yield the texts of rows with columns. Raises InvalidInput if there is no such column."""
    text_column: Any = None
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            error = row if isinstance(row, MultiheadError) else InvalidInput("is no object with named columns.")
            yield TextRow(number, number, error)
            continue
        if text_column is None:
            text_column = choose_columns(row, TASK, [column] if column else [], {})
            if id_column is not None and id_column not in row:
                raise InvalidInput(f"There is no column {id_column!r}. {nearest(id_column, map(str, row))}")
        text = row.get(text_column)
        text = InvalidInput(f"has nothing in its column {text_column!r}.") if text is None else text
        own = number if id_column is None else row.get(id_column)
        if own is None:
            text = InvalidInput(f"has nothing in its column {id_column!r}.")
        yield TextRow(number, own, text, row)


def live_windows(rows: Iterable[TextRow]) -> Iterator[list[TextRow]]:
    """Yield the rows that have come, at least one, so that a pipe is answered while it is written."""
    queue: Queue[TextRow | BaseException | None] = Queue(WINDOW)

    def fill() -> None:
        try:
            for row in rows:
                queue.put(row)
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    Thread(target=fill, daemon=True).start()
    ended = False
    while not ended:
        window = []
        found: Any = queue.get()
        while isinstance(found, TextRow):
            window.append(found)
            try:
                found = queue.get_nowait() if len(window) < WINDOW else ...
            except Empty:
                found = ...
        if window:
            yield window
        if isinstance(found, BaseException):
            raise found
        ended = found is None


def sentence(error: Exception) -> str:
    """Return an error as what follows "Row 7"."""
    message = str(error)
    return f"cannot be read: {message}" if message[:1].isupper() else message
