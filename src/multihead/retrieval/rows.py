"""Rows of an index: id, text and further fields, in memory or in a file of JSON lines that is read row by row."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..errors import CorruptFile, InvalidInput, UnsupportedOption

ROWS_FILE, OFFSETS_FILE = "rows.jsonl", "offsets.npy"

Row = Mapping[str, Any]  # "id", "text" and, if there are any, "fields"


class RowFile(Sequence[Row]):
    """Rows of a file of JSON lines, parsed when they are asked for.

    Args:
        path: of the lines. offsets: (rows + 1,), where each line begins, then the size of the file.

    Raises:
        CorruptFile: lines and offsets do not fit.
    """

    def __init__(self, path: Path, offsets: Any) -> None:
        self.path, self.offsets = path, offsets
        size = path.stat().st_size if path.is_file() else -1
        if offsets.ndim != 1 or len(offsets) < 2 or offsets.dtype.kind not in "iu" or int(offsets[-1]) != size:
            raise CorruptFile(f"{path} has not the rows that {OFFSETS_FILE} names. Build the index again.")
        with path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, number: int) -> Row: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Row]: ...
    def __getitem__(self, number: int | slice) -> Row | Sequence[Row]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        line = self.bytes[int(self.offsets[number]) : int(self.offsets[number + 1])]
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorruptFile(f"Line {number + 1} of {self.path} is no JSON. Build the index again.") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or "id" not in row:
            raise CorruptFile(f"Line {number + 1} of {self.path} is no row of an index. Build it again.")
        return row


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Write the file of rows and the file of their offsets."""
    offsets = [0]
    with (folder / ROWS_FILE).open("wb") as file:
        for row in rows:
            offsets.append(offsets[-1] + file.write(row_line(row)))
    np.save(folder / OFFSETS_FILE, np.array(offsets, np.int64), allow_pickle=False)


def row_line(row: Row) -> bytes:
    """Return a row as a line of JSON."""
    return (json.dumps(row, ensure_ascii=False, default=str) + "\n").encode("utf-8", "backslashreplace")


def check_several(texts: Any) -> None:
    """Raise InvalidInput for a single text, whose characters would be read as texts."""
    if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
        raise InvalidInput(f"Give a list of texts, not {texts!r:.80}.")


def document_rows(documents: Iterable[Any], ids: Iterable[Any] | None, first: int) -> Iterator[Row]:
    """Yield a row for each document: a text, or a mapping with "text", perhaps "id", and other fields.

    Args:
        ids: replace those of the documents. first: number of the first row; the number is the id of a row without one.

    Raises:
        InvalidInput: a document that is neither, an id that is no string or whole number, or too few or too many ids.
    """
    check_several(documents)
    given = None if ids is None else iter(ids)
    end = object()
    for number, document in enumerate(documents, first):
        entries = document if isinstance(document, Mapping) else {"text": document}
        if not isinstance(entries.get("text"), str):
            raise InvalidInput(f'Document {number} must be a text or {{"text": "...", ...}}, not {document!r:.80}.')
        own = entries.get("id", number) if given is None else next(given, end)
        if own is end:
            raise InvalidInput(f"There are ids for {number - first} documents only, and there are more documents.")
        if isinstance(own, bool) or not isinstance(own, (str, int)):
            raise InvalidInput(f"The id of document {number} must be a string or a whole number, not {own!r:.80}.")
        fields = {str(name): value for name, value in entries.items() if name not in ("id", "text")}
        yield {"id": own, "text": entries["text"], **({"fields": fields} if fields else {})}
    if given is not None and next(given, end) is not end:
        raise InvalidInput("There are more ids than documents.")


def check_ids(rows: Iterable[Row], known: set[str | int]) -> None:
    """Add the ids of rows to `known`. Raises InvalidInput for an id that occurs twice."""
    for row in rows:
        if row["id"] in known:
            raise InvalidInput(f"The id {row['id']!r} occurs twice. Each document needs its own.")
        known.add(row["id"])


def check_top_k(top_k: Any) -> None:
    """Raise UnsupportedOption for anything but a whole number from 1."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise UnsupportedOption(f"top_k is a whole number from 1, not {top_k!r}.")
