"""Rows of a file written again, some of them or with more columns: JSON lines, CSV, TSV or text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..errors import InvalidInput
from ..files import check_target, replace_file
from ..pipelines.batch_inference.csv_text import csv_writer
from ..pipelines.batch_inference.json_rows import to_json
from ..terminal import json_visible
from .text_rows import TextRow

ENDINGS = (".jsonl", ".csv", ".tsv", ".txt")


def check_row_output(path: Path | None, option: str, overwrite: bool, source: Path, endings: Sequence[str]) -> None:
    """Raise InvalidInput for a file that exists already, is read, cannot be written, or has an unknown ending."""
    if path is None:
        return
    if path.suffix not in endings:
        raise InvalidInput(f"{option} {path}: the name must end in {', '.join(endings)}.")
    check_target(path, option, [source])
    if path.exists() and not overwrite:
        raise InvalidInput(f"{path} exists already. Choose another {option}, or pass --overwrite.")


def row_values(row: TextRow) -> dict[str, Any]:
    """Return the columns of a row; "text" of a line of text."""
    return dict(row.values) if row.values else {"text": row.text}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, whole or not at all. Raises InvalidInput for a row that the format cannot hold."""
    writers: dict[str, Callable[[TextIO, Iterable[Mapping[str, Any]]], None]] = {
        ".jsonl": write_json_lines,
        ".csv": lambda file, rows: write_csv(file, rows, ".csv"),
        ".tsv": lambda file, rows: write_csv(file, rows, ".tsv"),
        ".txt": write_texts,
    }
    with replace_file(path) as new, new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writers[path.suffix](file, rows)


def write_json_lines(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON object a line."""
    for row in rows:
        file.write(json_visible(to_json(row)) + "\n")


def write_csv(file: TextIO, rows: Iterable[Mapping[str, Any]], ending: str) -> None:
    """Write a table. Its columns are those of the first row; anything but text and numbers is written as JSON."""
    writer, names = csv_writer(file, ending), list[str]()
    for row in rows:
        if not names:
            names = list(row)
            writer.writerow(names)
        if more := [name for name in row if name not in names]:
            raise InvalidInput(f"A row has the column {more[0]!r}, which the first row lacks: write .jsonl instead.")
        cells = (row.get(name, "") for name in names)
        writer.writerow([to_json(cell) if isinstance(cell, (dict, list, bool)) else cell for cell in cells])


def write_texts(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a text a line. Raises InvalidInput for rows with other columns, or lines in a text."""
    for row in rows:
        if set(row) != {"text"} or not isinstance(row["text"], str) or "\n" in row["text"]:
            raise InvalidInput("A .txt file holds lines of text only, and these rows have more: write .jsonl instead.")
        file.write(row["text"] + "\n")
