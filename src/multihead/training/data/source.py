"""Rows of any source as an indexable sequence of mappings that knows the location of each row in its file."""

from __future__ import annotations

import glob
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from ...data_files import ENDINGS, arrow_rows, import_parquet, numbered_rows, parquet_options, read_lines, row_or_raise
from ...errors import InvalidInput, read_errors

CHUNK = 2000  # rows that are processed together
Row = Mapping[str, Any]
ABSENT = object()


@dataclass(frozen=True)
class RowBlock:
    """Rows of one file or one object in memory.

    Args:
        count: number of rows. take: returns the rows start..stop - 1. columns: columns of the first row.
        name: file name, "" for rows in memory. lines: line number of each row in its file, from 1.
        classes: column -> names of its class numbers, if the source knows them.
    """

    count: int
    take: Callable[[int, int], list[Row]]
    columns: tuple[str, ...] = ()
    name: str = ""
    lines: NDArray[np.int64] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Rows(Sequence[Row]):
    """A data set: `rows[7]` is a mapping of column to value. Rows count from 0, lines of files from 1.

    Raises:
        InvalidInput: there are no rows.
    """

    def __init__(self, parts: Sequence[RowBlock]) -> None:
        self.parts = parts
        self.begins = [0, *accumulate(part.count for part in parts)]
        names = [part.name for part in parts if part.name]
        self.name = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "the data"
        if not len(self):
            raise InvalidInput(f"There are no rows in {self.name}.")

    @classmethod
    def of(cls, source: Any, *, whole_files: bool = False) -> Rows:
        """Read the rows of a source.

        Args:
            source: a path (globs allowed) or several, of .txt, .csv, .tsv, .json, .jsonl or .parquet; a list of dicts
                or of texts; a dict of columns; a dict of column -> text file, for parallel files; a pandas DataFrame; a
                pyarrow Table; a `datasets.Dataset`; or any other iterable of rows. A string is a path if it has one of
                the endings. A text is a row with one column, "text".
            whole_files: a text file is one row, instead of one for each line.

        Raises:
            ModelNotFound: no such file. InvalidInput: a source of another kind, a broken row, or no rows.
        """
        if isinstance(source, Rows):
            return source
        if isinstance(source, (str, os.PathLike)):
            return cls([of_file(path, whole_files) for path in expand_path(source)])
        if isinstance(source, (list, tuple)) and source and all(is_path(item) for item in source):
            return cls([of_file(path, whole_files) for item in source for path in expand_path(item)])
        if isinstance(source, Mapping) and source and all(isinstance(v, (str, os.PathLike)) for v in source.values()):
            return cls.parallel(**source)
        return cls([in_memory(source)])

    @classmethod
    def parallel(cls, **files: str | os.PathLike[str]) -> Rows:
        """Read parallel text files: column -> file.

        Raises:
            InvalidInput: the files have unequal numbers of lines.
        """
        paths = {column: expand_path(file)[0] for column, file in files.items()}
        parts = {column: of_text(path) for column, path in paths.items()}
        if len({part.count for part in parts.values()}) > 1:
            counts = ", ".join(f"{part.name} has {part.count:,}" for part in parts.values())
            raise InvalidInput(f"Parallel files need equal numbers of lines; {counts}.")

        def take(start: int, stop: int) -> list[Row]:
            each = [[row["text"] for row in part.take(start, stop)] for part in parts.values()]
            return [dict(zip(parts, texts, strict=True)) for texts in zip(*each, strict=True)]

        first = next(iter(parts.values()))
        name = " and ".join(part.name for part in parts.values())
        return cls([RowBlock(first.count, take, tuple(parts), name, first.lines)])

    def __len__(self) -> int:
        return self.begins[-1]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part, number = self._locate(range(len(self))[index])
        return part.take(number, number + 1)[0]

    def _locate(self, index: int) -> tuple[RowBlock, int]:
        """Return the block of a row and the number of the row in it."""
        number = bisect_right(self.begins, index) - 1
        return self.parts[number], index - self.begins[number]

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, list[Row]]]:
        """Yield the number of the first row and up to `size` rows. Raises InvalidInput for a row that is no mapping."""
        for begin, part in zip(self.begins, self.parts, strict=False):
            for start in range(0, part.count, size):
                rows = part.take(start, min(start + size, part.count))
                for number, row in enumerate(rows, begin + start):
                    if not isinstance(row, Mapping):
                        raise InvalidInput(
                            f"{self.subject(number)} is no mapping of column to value, but {type(row).__name__}."
                        )
                yield begin + start, rows

    def __iter__(self) -> Iterator[Row]:
        for _, rows in self.chunks():
            yield from rows

    def location(self, index: int) -> str:
        """Return the location of a row: "row 12", "row 12 of train.parquet", "line 13 of train.csv"."""
        part, number = self._locate(index)
        if part.lines is not None:
            return f"line {part.lines[number]} of {part.name}"
        return f"row {number} of {part.name}" if part.name else f"row {number}"

    def subject(self, index: int) -> str:
        """Return the location of a row, capitalized to begin a sentence."""
        location = self.location(index)
        return location[0].upper() + location[1:]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the first row."""
        return next(part.columns for part in self.parts if part.count)

    def classes(self, column: str) -> tuple[str, ...] | None:
        """Return the names of a column's class numbers, if the source knows them."""
        return next((part.classes[column] for part in self.parts if column in part.classes), None)


class StreamPrefix(list[Any]):
    """The first items of a source without a length, in its order: as many as a run reads.

    Args:
        source: iterated over once. size: number of examples that a run reads.
    """

    def __init__(self, source: Iterable[Any], size: int) -> None:
        super().__init__()
        self.size, self._iterator = size, iter(source)
        self.features = getattr(source, "features", None)  # names of classes, as `class_names` reads them
        self.read()

    def read(self) -> bool:
        """Read up to `size` further items; return False at the end of the source."""
        items = list(islice(self._iterator, self.size))
        self += items
        return bool(items)


def is_stream(source: Any) -> bool:
    """Return whether a source has no length, so that it may be endless."""
    return isinstance(source, Iterable) and not hasattr(source, "__len__")


def is_live(source: Any) -> bool:
    """Return whether a source computes an item at each access, so that it may change between accesses.

    That holds for map-style data sets of torch, and for a `datasets.Dataset` with a transform.
    """
    if isinstance(source, (str, os.PathLike, Sequence, Mapping, IterableDataset)):
        return False
    if hasattr(source, "column_names") and hasattr(source, "features"):
        return (getattr(source, "format", None) or {}).get("type") == "custom"
    table = hasattr(source, "iloc") or hasattr(source, "num_rows")
    return hasattr(source, "__getitem__") and hasattr(source, "__len__") and not table


def is_path(item: Any) -> bool:
    """Return whether an item is a path, or a string with the ending of a data file."""
    return isinstance(item, os.PathLike) or (isinstance(item, str) and item.lower().endswith(ENDINGS))


def expand_path(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a path or glob. Raises InvalidInput for a folder."""
    plain = Path(path).expanduser()
    if plain.is_dir():
        raise InvalidInput(f"{plain} is a folder; name its files, such as {plain / '*.jsonl'}.")
    if not plain.exists() and glob.has_magic(str(plain)):
        return [Path(name) for name in sorted(glob.glob(str(plain), recursive=True))] or [plain]
    return [plain]


def of_file(path: Path, whole: bool = False) -> RowBlock:
    """Read a file; its values are stored by column. Raises ModelNotFound, InvalidInput."""
    if path.suffix.lower() == ".parquet" and path.is_file():
        with read_errors(f"{path.name}: as Parquet it", InvalidInput):
            return of_arrow(import_parquet(path).read_table(path, memory_map=True, **parquet_options(path)), path.name)
    if whole:
        texts = [text for text in read_lines(path, whole=True) if text]
        return replace(of_columns({"text": texts}), name=path.name)
    numbers: list[int] = []
    columns: dict[str, list[Any]] = {}
    for count, (line, row) in enumerate(numbered_rows(path)):
        record = require_mapping(row, f"{f'Row {count}' if line is None else f'Line {line}'} of {path.name}")
        for name in record:
            if name not in columns:
                columns[name] = [ABSENT] * count
        for name, values in columns.items():
            values.append(record.get(name, ABSENT))
        numbers += [] if line is None else [line]
    return replace(of_columns(columns), name=path.name, lines=np.array(numbers, np.int64) if numbers else None)


def require_mapping(row: Any, location: str) -> Row:
    """Return a row of a file as a mapping. Raises InvalidInput for a broken row."""
    if isinstance(row, InvalidInput):
        raise row
    record = {"text": row} if isinstance(row, str) else row
    if not isinstance(record, Mapping):
        raise InvalidInput(f"{location} is no object of column and value, but {type(row).__name__}.")
    return record


def of_text(path: Path) -> RowBlock:
    """Read the lines of a text file with any ending."""
    texts = list(read_lines(path))
    return replace(of_columns({"text": texts}), name=path.name, lines=np.arange(1, len(texts) + 1))


def of_columns(columns: Mapping[str, Any]) -> RowBlock:
    """Build rows from columns. Raises InvalidInput for columns of unequal lengths."""
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput("Columns must have equal lengths; " + ", ".join(f"{n} has {s:,}" for n, s in sizes.items()))

    def take(start: int, stop: int) -> list[Row]:
        slices = {name: values[start:stop] for name, values in columns.items()}
        return [
            {name: values[i] for name, values in slices.items() if values[i] is not ABSENT} for i in range(stop - start)
        ]

    count = next(iter(sizes.values()), 0)
    return RowBlock(count, take, tuple(take(0, 1)[0]) if count else tuple(columns))


def of_arrow(table: Any, name: str = "") -> RowBlock:
    """Build rows from a pyarrow Table; `name` is its file. Reading a broken row raises InvalidInput."""

    def location(number: int) -> str:
        return f"Row {number} of {name}" if name else f"Row {number}"

    def take(start: int, stop: int) -> list[Row]:
        return [row_or_raise(row) for row in arrow_rows(table.slice(start, stop - start), location, start)]

    return RowBlock(table.num_rows, take, tuple(table.column_names), name)


def in_memory(source: Any) -> RowBlock:
    """Build rows from an object in memory. Raises InvalidInput for an object without rows."""
    if hasattr(source, "num_rows") and hasattr(source, "to_pylist"):
        return of_arrow(source)
    if hasattr(source, "iloc") and hasattr(source, "columns"):
        return of_columns({str(name): source[name].tolist() for name in source.columns})
    if isinstance(source, Mapping):
        return of_mapping(source)
    if is_dataset(source):
        return of_dataset(source)
    indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if indexed and not isinstance(source, (str, bytes, IterableDataset)):
        items = source
    elif isinstance(source, Iterable):
        items = list(source)
    else:
        raise InvalidInput(
            f"Rows come from a path, a list of dicts, a dict of lists, a DataFrame, a Table or a Dataset; not from "
            f"{type(source).__name__}."
        )

    def take(start: int, stop: int) -> list[Row]:
        rows = [items[i] for i in range(start, stop)]
        return [{"text": row} if isinstance(row, str) else row for row in rows]

    first = take(0, 1)[0] if len(items) else {}
    return RowBlock(len(items), take, tuple(first) if isinstance(first, Mapping) else (), classes=class_names(items))


def of_mapping(source: Mapping[str, Any]) -> RowBlock:
    """Build rows from a mapping of columns. Raises InvalidInput for other mappings."""
    for name, values in source.items():
        if hasattr(values, "column_names"):
            raise InvalidInput(f"These are several data sets: {', '.join(source)}. Give one, such as data[{name!r}].")
        if not hasattr(values, "__getitem__") or not hasattr(values, "__len__") or isinstance(values, str):
            raise InvalidInput(f"The column {name!r} must be a list of values, not {type(values).__name__}.")
    return of_columns({name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in source.items()})


def is_dataset(source: Any) -> bool:
    """Return whether this is a `datasets.Dataset`, recognized by its attributes and never imported."""
    return hasattr(source, "column_names") and hasattr(source, "features") and hasattr(source, "__len__")


def class_names(source: Any) -> dict[str, tuple[str, ...]]:
    """Return column -> names of its class numbers, for a `datasets.Dataset` or a similar object."""
    classes = {}
    for name, kind in (getattr(source, "features", None) or {}).items():
        names = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
        if names:
            classes[name] = tuple(names)
    return classes


def of_dataset(source: Any) -> RowBlock:
    """Build rows from a `datasets.Dataset`."""

    def take(start: int, stop: int) -> list[Row]:
        columns = source[start:stop]
        return [{name: values[i] for name, values in columns.items()} for i in range(stop - start)]

    if (getattr(source, "format", None) or {}).get("type") in ("arrow", "pandas", "polars"):
        source = source.with_format(None)  # these formats return tables instead of columns
    columns = (
        source[0] if is_live(source) and len(source) else source.column_names
    )  # a transform may change the columns
    return RowBlock(len(source), take, tuple(columns), classes=class_names(source))
