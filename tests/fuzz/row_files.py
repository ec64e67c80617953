"""Files of rows, what this library reads of them, and what Python's and pyarrow's own readers do."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from multihead.data_files import read
from multihead.errors import MultiheadError
from multihead.training.data.source import Rows

BROKEN = "error"  # in the place of a row
BAD = re.compile("[\\0\udc80-\udcff]")


def table(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        rows = [{"text": f"the {n}. row, é", "label": n % 3, "more": [1, {"a": None}]} for n in range(40)]
        path = folder / name
        if name.endswith("parquet"):
            import pyarrow
            import pyarrow.parquet

            flat = [{**row, "more": {"a": [row["label"]]}} for row in rows]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(flat), path)
        elif name.endswith("csv"):
            path.write_text("text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in rows))
        elif name.endswith("jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(json.dumps({"data": rows}))

    return make


def rows_of(folder: Path) -> list[str]:
    """The rows as `run` reads them; those that training reads must be the same."""
    path = next(folder.iterdir())
    found = list(read(path))
    try:
        held = list(Rows.of(path))
    except MultiheadError:
        held = None
    if held is not None:
        whole = [{"text": row} if isinstance(row, str) else row for row in found]
        assert list(map(plain, held)) == list(map(plain, whole)), "training reads other rows"
    return [plain(row) for row in found]


def plain(row: Any) -> str:
    if isinstance(row, MultiheadError):
        return BROKEN
    return repr(sorted(row.items())) if isinstance(row, dict) else repr(row)


def says(folder: Path) -> list[str]:
    """What another reader gives, row by row."""
    path = next(folder.iterdir())
    readers = {".parquet": of_parquet, ".csv": of_csv, ".jsonl": of_lines, ".json": of_json}
    return list(readers[path.suffix](path))


def of_parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.ParquetFile(path).read()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        yield f"no Parquet: {error}"
        return
    for number in range(len(found)):
        try:
            yield plain(found.slice(number, 1).to_pylist()[0])
        except (ValueError, OverflowError):
            yield BROKEN


def decoded(path: Path) -> str:
    return path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def of_csv(path: Path) -> Iterator[str]:
    reader = csv.reader(io.StringIO(decoded(path), newline=""), strict=True)
    names: list[str] = []
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield BROKEN
            continue
        if names and row:
            sound = len(row) == len(names) and not BAD.search("".join(row))
            yield plain(dict(zip(names, row, strict=True))) if sound else BROKEN
        names = names or row


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def of_lines(path: Path) -> Iterator[str]:
    for line in re.split("\r\n|\r|\n", decoded(path)):
        if not line.strip():
            continue
        try:
            if BAD.search(line):
                raise ValueError
            yield plain(json.loads(line, object_pairs_hook=unique))
        except (ValueError, RecursionError):
            yield BROKEN


def of_json(path: Path) -> Iterator[str]:
    text = decoded(path)
    try:
        found = json.loads(text, object_pairs_hook=unique)
    except ValueError:
        yield from of_lines(path)
        return
    bad = BAD.search(text)
    for row in found["data"] if isinstance(found, dict) else found:
        yield BROKEN if bad and BAD.search(json.dumps(row, ensure_ascii=False)) else plain(row)
