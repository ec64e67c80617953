"""Rows of files, one at a time: text, CSV, TSV, JSON, JSON lines, Parquet, and SQuAD's nested JSON made flat."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import InvalidInput, ModelNotFound

ENDINGS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
Entry = tuple[int | None, Any]  # line from 1, None where a row has no line of its own; the row


def read(path: Path) -> Iterator[Any]:
    """The rows of a file: strings of a text file's lines, dicts of all others; an error in a broken row's place.

    Raises:
        ModelNotFound: no such file. InvalidInput: a kind of file that is not read, or a file that cannot be read on.
    """
    return (row for _, row in entries(path))


def entries(path: Path) -> Iterator[Entry]:
    """The rows of a file with their lines; never more than a part of it in memory, but for .json.

    Raises:
        ModelNotFound: no such file. InvalidInput: a kind of file that is not read, or a file that cannot be read on.
    """
    if not path.is_file():
        raise ModelNotFound(f"There is no file {path}.")
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise InvalidInput(f"{path.name} is none of {', '.join(ENDINGS)}.")
    if kind == ".parquet":
        return ((None, row) for row in parquet(path))
    if kind in (".csv", ".tsv"):
        return decoded(path, table(path, "," if kind == ".csv" else "\t"))
    if kind == ".json":
        return decoded(path, document(path))
    return decoded(path, lines(path, parsed=kind != ".txt"))


def decoded(path: Path, found: Iterator[Entry]) -> Iterator[Entry]:
    """The same rows; a byte that is no UTF-8 is an error that names its line."""
    try:
        yield from found
    except UnicodeDecodeError as error:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as wrong:
                    raise InvalidInput(
                        f"Line {number} of {path.name} is no UTF-8: byte 0x{line[wrong.start]:02x} at place "
                        f"{wrong.start + 1}. Save the file as UTF-8."
                    ) from error
        raise


def plain(path: Path, *, whole: bool = False) -> Iterator[str]:
    """The lines of a text file of any ending, or the text as a whole.

    Raises:
        ModelNotFound: no such file. InvalidInput: a byte that is no UTF-8.
    """
    if not path.is_file():
        raise ModelNotFound(f"There is no file {path}.")
    return (text for _, text in decoded(path, content(path) if whole else lines(path, parsed=False)))


def content(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig") as file:
        yield None, file.read()


def lines(path: Path, *, parsed: bool) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            text = line.rstrip("\r\n")
            if not parsed:
                yield number, text
            elif text.strip():
                try:
                    yield number, json.loads(text)
                except (json.JSONDecodeError, RecursionError) as error:
                    yield number, InvalidInput(f"Line {number} of {path.name} is no JSON: {error}.")


def table(path: Path, between: str) -> Iterator[Entry]:
    """Rows of CSV; fields that a short row lacks are None, those that a long one has too many stand under None."""
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=between)
        names: list[str] | None = None
        begin = 1
        try:
            for fields in reader:
                line, begin = begin, reader.line_num + 1
                if not fields:
                    continue
                if names is None:
                    names = fields
                    continue
                row: dict[Any, Any] = dict.fromkeys(names)
                row.update(zip(names, fields, strict=False))
                if len(fields) > len(names):
                    row[None] = fields[len(names) :]
                yield line, row
        except csv.Error as error:
            raise InvalidInput(f"Line {begin} of {path.name} is no CSV: {error}.") from error


def document(path: Path) -> Iterator[Entry]:
    """The rows of a JSON file: of its list, or of the list under its "data"; JSON lines are read as such.

    Raises:
        InvalidInput: no JSON, or JSON without such a list.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line, under the wrong ending
            yield from lines(path, parsed=True)
            return
        raise InvalidInput(f"Line {error.lineno} of {path.name} is no JSON: {error.msg}.") from error
    rows = found.get("data") if isinstance(found, Mapping) else found
    if not isinstance(rows, list):
        raise InvalidInput(f'{path.name} must hold a list of rows, or {{"data": [...]}}.')
    for number, row in enumerate(rows):
        if isinstance(row, Mapping) and "paragraphs" in row:
            yield from ((None, question) for question in questions(row, f"Article {number} of {path.name}"))
        else:
            yield None, row


def questions(article: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The questions of an article in SQuAD's format (arXiv:1606.05250, arXiv:1806.03822), each with its context.

    Raises:
        InvalidInput: a paragraph without `context` or `qas`.
    """
    for paragraph in article["paragraphs"]:
        if not isinstance(paragraph, Mapping) or not {"context", "qas"} <= set(paragraph):
            raise InvalidInput(f"{where} has a paragraph without context and qas, which SQuAD's format needs.")
        for question in paragraph["qas"]:
            yield {"title": article.get("title", ""), "context": paragraph["context"], **question}


def parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file. Raises InvalidInput where it is none, or is broken."""
    library = arrow(path)
    try:
        for batch in library.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (ValueError, OSError) as error:  # Arrow's own are of these kinds
        raise InvalidInput(f"{path.name} cannot be read as Parquet: {error}") from error


def arrow(path: Path) -> Any:
    """pyarrow's module for Parquet. Raises InvalidInput where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidInput(f"Reading {path.name} needs pyarrow: python -m pip install pyarrow.") from error
    return pyarrow.parquet
