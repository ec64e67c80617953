"""Inputs from files and pipes, a row at a time: text, CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, ModelNotFound, nearest

ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
KEYS: Mapping[str, Sequence[str]] = {  # task -> what a row must have, for tasks whose input is no single text
    "question-answering": ("question", "context"),
    "sentence-similarity": ("source_sentence", "sentences"),
    "text-ranking": ("query", "documents"),
    "table-question-answering": ("table", "query"),
}
TEXT = ("text", "sentence", "review", "content", "document", "prompt", "source")


def read(path: Path) -> Iterator[Any]:
    """The rows of a file: strings of a text file's lines, dicts of all others; never more than a part of it in memory.

    Raises:
        ModelNotFound: no such file. InvalidInput: a kind of file that is not read, or a row that is broken.
    """
    if not path.is_file():
        raise ModelNotFound(f"There is no file {path}.")
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise InvalidInput(f"{path.name} is none of {', '.join(ENDINGS)}.")
    if kind == ".parquet":
        return parquet(path)
    if kind in (".csv", ".tsv"):
        return table(path, "," if kind == ".csv" else "\t")
    return lines(path, parsed=kind != ".txt")


def lines(path: Path, *, parsed: bool) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            text = line.rstrip("\r\n")
            if not parsed:
                yield text
                continue
            if not text.strip():
                continue
            try:
                yield json.loads(text)
            except json.JSONDecodeError as error:
                yield InvalidInput(f"Line {number + 1} of {path.name} is no JSON: {error}.")


def table(path: Path, between: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter=between)


def parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidInput(f"Reading {path.name} needs pyarrow: python -m pip install pyarrow.") from error
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
        yield from batch.to_pylist()


def chosen(rows: Iterator[Any], task: str, columns: Sequence[str]) -> Iterator[Any]:
    """What the task takes of each row.

    Args:
        columns: the column of texts, or `key=column` for each key of a task whose input has several; guessed when left
            out.

    Raises:
        InvalidInput: a column that is not there, or none that can be guessed.
    """
    plan: Any = None
    for row in rows:
        if not isinstance(row, Mapping):
            yield row
            continue
        if plan is None:
            plan = planned(row, task, columns)
        yield row.get(plan) if isinstance(plan, str) else {key: row.get(column) for key, column in plan.items()}


def planned(row: Mapping[str, Any], task: str, columns: Sequence[str]) -> str | dict[str, str]:
    """The column of texts, or the column of each key."""
    keys = KEYS.get(task, ())
    if task == "text-classification" and "text_pair" in row and not columns:
        keys = ("text", "text_pair")
    plan = dict(column.partition("=")[::2] for column in columns if "=" in column)
    plain = [column for column in columns if "=" not in column]
    for column in [*plan.values(), *plain]:
        if column not in row:
            raise InvalidInput(f"There is no column {column!r}. {nearest(column, map(str, row))}")
    if plain and not keys:
        return plain[0]
    if keys:
        plan = {**{key: key for key in keys if key in row}, **dict(zip(keys, plain, strict=False)), **plan}
        if lacking := [key for key in keys if key not in plan]:
            raise InvalidInput(
                f"{task} needs {' and '.join(keys)} of each row; the file has {', '.join(map(str, row))}. Say which "
                f"column is which: --column {lacking[0]}=NAME."
            )
        return plan
    found = next((name for name in TEXT if name in row), None)
    texts = [name for name, value in row.items() if isinstance(value, str)]
    if found is None and len(texts) != 1:
        raise InvalidInput(f"Which column has the texts? Name one of {', '.join(map(str, row))} with --column.")
    return found or texts[0]
