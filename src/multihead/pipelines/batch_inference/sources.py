"""Files of a batch job, the inputs of their rows, and the parts that are answered as a whole."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any

from ...data_files import ENDINGS, import_parquet, read, row_or_raise
from ...errors import InvalidInput, ModelNotFound, UnsupportedOption
from ..catalog import TASKS, canonical_name
from .columns import ROW_KEYS, KeptRow, input_of, keep_columns, select_inputs

FILE = "file"  # column that names the file of a row, where there are several
PART_ROWS = 4096
PART_CHARACTERS = 1 << 25  # of inputs of a part, after which it ends: the ceiling of what a part holds in memory
SAMPLE = 1 << 20  # bytes by which the rows of a text file are estimated
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class SourceFile:
    """File of inputs. `name` is its path from the folder that all files of the job are in."""

    path: Path
    name: str


@dataclass(frozen=True)
class Part:
    """Rows of one file that are answered together and written to one file.

    Args:
        file: number of the file. number: of the part in its file. begin: number of the first row in its file.
    """

    file: int
    number: int
    begin: int
    items: Sequence[Any]

    @property
    def name(self) -> str:
        """Name of the part's file without its suffix; names in order are rows in order."""
        return f"part-{self.file:05d}-{self.number:05d}"


@dataclass(frozen=True)
class Inputs:
    """Choice of the inputs of a task from the rows of files.

    Args:
        columns: the column of texts, or `key=column`. shared: values of keys that all inputs have.
        keep: columns that go into the output.
    """

    task: str
    columns: Sequence[str] = ()
    shared: Mapping[str, str] = field(default_factory=dict)
    keep: Sequence[str] = ()

    def of_file(self, path: Path, taken: Sequence[str] = ROW_KEYS) -> Iterable[Any]:
        """Return the inputs of a file: one a row, or one for the whole file where a task reads it whole.

        Args:
            taken: names that a kept column cannot have.

        Raises:
            InvalidInput, UnsupportedOption: as `select_inputs` and `keep_columns`.
        """
        if path.suffix.lower() == ".txt":
            return self.of_lines(read(path))
        name = canonical_name(self.task)
        rows = read(path)
        table = next((each.name for each in TASKS[name].inputs if each.takes == "table"), None)
        if table is not None and self.shared:
            if self.keep:
                raise UnsupportedOption(f"--keep has no effect: the file is one table, which {name} reads whole.")
            return [{table: list(map(row_or_raise, rows)), **self.shared}]
        if not self.keep:
            return select_inputs(rows, name, self.columns, self.shared)
        rows, own = tee(rows)
        return keep_columns(select_inputs(rows, name, self.columns, self.shared), own, self.keep, taken)

    def of_lines(self, lines: Iterable[Any]) -> Iterable[Any]:
        """Return the inputs of lines of text."""
        task = TASKS[canonical_name(self.task)]
        if not self.shared:
            return (parse_json(text) if task.inputs else text for text in lines)
        other = next(each for each in task.inputs if each.name not in self.shared)
        if other.takes == "text":
            return ({**self.shared, other.name: text} for text in lines)
        return [{**self.shared, other.name: list(map(row_or_raise, lines))}]


def parse_json(text: str) -> Any:
    """Return an input that is written as a JSON object, or the error that it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return InvalidInput(f"{text[:60]!r} is no JSON object, which this task reads: {error}.")


def is_several(source: Source) -> bool:
    """Return whether a source is more than the name of one file: a pattern, a folder, or a list."""
    if not isinstance(source, (str, os.PathLike)):
        return True
    path = Path(source)
    return path.is_dir() or (glob.has_magic(str(source)) and not path.exists())


def find_files(source: Source, output: Path | None = None) -> list[SourceFile]:
    """Return the files of a source in the order of their paths, each once.

    Args:
        source: a file, a pattern (`**` too), a folder, or a list of them. Of a folder, all files in it and below it
            with a known suffix are read, but none whose name, or folder's name, begins with "." or "_".
        output: folder of the answers, in which no source can be.

    Raises:
        ModelNotFound: no file of that name. InvalidInput: an empty folder or pattern; a folder that holds the output.
    """
    names = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    paths = {path for name in names for path in expand(name)}
    inside = output.resolve() if output is not None else None
    holders = [Path(name).resolve() for name in names if Path(name).is_dir()]
    if inside is not None and any(inside == place or place in inside.parents for place in holders):
        raise InvalidInput(f"{output} is in a folder that is read; its answers would be read too. Choose another.")
    if inside is not None and any(inside in path.resolve().parents for path in paths):
        raise InvalidInput(f"A file that is read is in {output}, where the answers go. Choose another output.")
    ordered = sorted(paths)
    if not ordered:
        raise InvalidInput("No file is named to read.")
    base = os.path.commonpath([path.absolute().parent for path in ordered])
    return [SourceFile(path, path.absolute().relative_to(base).as_posix()) for path in ordered]


def expand(name: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a name: the file, those of a folder, or those that match a pattern."""
    path = Path(name)
    if path.is_dir():
        visible = (each for each in path.rglob("*") if not any(p[0] in "._" for p in each.relative_to(path).parts))
        found = [each for each in visible if each.is_file() and each.suffix.lower() in ENDINGS]
        if not found:
            raise InvalidInput(f"{path} has no file that ends in {', '.join(ENDINGS)}.")
        return found
    if path.exists():
        return [path]
    if not glob.has_magic(str(name)):
        raise ModelNotFound(f"There is no file {path}.")
    found = [Path(each) for each in glob.glob(str(name), recursive=True) if Path(each).is_file()]
    if not found:
        raise InvalidInput(f"No file matches {name}.")
    return found


def file_items(file: SourceFile, inputs: Inputs, named: bool) -> Iterator[Any]:
    """Yield the inputs of a file; with `named`, each with the file's name beside it."""
    if not named:
        yield from inputs.of_file(file.path)
        return
    for item in inputs.of_file(file.path, (*ROW_KEYS, FILE)):
        kept = item.kept if isinstance(item, KeptRow) else {}
        yield KeptRow(input_of(item), {FILE: file.name, **kept})


def cut_parts(files: Sequence[SourceFile], inputs: Inputs, named: bool, size: int) -> Iterator[Part]:
    """Yield the parts of all files. Where a part ends depends on the rows of its file alone."""
    for number, file in enumerate(files):
        count, begin = 0, 0
        items: list[Any] = []
        characters = 0
        for item in file_items(file, inputs, named):
            items.append(item)
            characters += len(item) if isinstance(item, str) else text_size(input_of(item))
            if len(items) == size or characters >= PART_CHARACTERS:
                yield Part(number, count, begin, items)
                count, begin = count + 1, begin + len(items)
                items, characters = [], 0
        if items:
            yield Part(number, count, begin, items)


def text_size(item: Any) -> int:
    """Return about how many characters an input holds."""
    return len(item) if isinstance(item, str) else len(str(item))


def estimate_rows(files: Sequence[SourceFile]) -> int | None:
    """Return about how many rows some files have: exactly for Parquet, by their first lines for text; None if unknown.

    Raises:
        InvalidInput: a file that cannot be read.
    """
    total = 0.0
    for file in files:
        kind = file.path.suffix.lower()
        if kind == ".parquet":
            total += import_parquet(file.path).read_metadata(file.path).num_rows
        elif kind in (".json", ".arrow") or not file.path.is_file():
            return None
        else:
            with file.path.open("rb") as opened:
                head = opened.read(SAMPLE)
            total += file.path.stat().st_size * head.count(b"\n") / max(len(head), 1) - (kind in (".csv", ".tsv"))
    return round(total)
