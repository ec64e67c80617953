"""Rows of any source under one roof: an indexable sequence of mappings that can say where each row stands."""

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

CHUNK = 2000  # rows that are looked at together
Row = Mapping[str, Any]
ABSENT = object()


@dataclass(frozen=True)
class Part:
    """Rows that come from one place.

    Args:
        count: how many. take: the rows from one number to (not with) another. columns: of the first row.
        name: the file's, "" for rows in memory. lines: of each row in its file, from 1.
        classes: column -> names of its numbers, where the source knows them.
    """

    count: int
    take: Callable[[int, int], list[Row]]
    columns: tuple[str, ...] = ()
    name: str = ""
    lines: NDArray[np.int64] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Rows(Sequence[Row]):
    """A data set: `rows[7]` is a mapping of column to value. Rows count from 0, lines of files from 1."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.begins = [0, *accumulate(part.count for part in parts)]
        names = [part.name for part in parts if part.name]
        self.name = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "the data"
        if not len(self):
            raise InvalidInput(f"There are no rows in {self.name}.")

    @classmethod
    def of(cls, source: Any, *, whole_files: bool = False) -> Rows:
        """The rows of a source.

        Args:
            source: a path (with *, too) or several, of .txt, .csv, .tsv, .json, .jsonl or .parquet; a list of dicts or
                of texts; a dict of columns; a dict of column -> text file, for parallel files; a pandas DataFrame; a
                pyarrow Table; a `datasets.Dataset`; or anything else that gives rows. Rows are told from paths by
                their endings. A text is a row with one column, "text".
            whole_files: a text file is one row, instead of one for each line.

        Raises:
            ModelNotFound: no such file. InvalidInput: a source of another kind, a broken row, or no rows.
        """
        if isinstance(source, Rows):
            return source
        if isinstance(source, (str, os.PathLike)):
            return cls([of_file(path, whole_files) for path in found(source)])
        if isinstance(source, (list, tuple)) and source and all(is_path(item) for item in source):
            return cls([of_file(path, whole_files) for item in source for path in found(item)])
        if isinstance(source, Mapping) and source and all(isinstance(v, (str, os.PathLike)) for v in source.values()):
            return cls.parallel(**source)
        return cls([in_memory(source)])

    @classmethod
    def parallel(cls, **files: str | os.PathLike[str]) -> Rows:
        """Rows of text files whose lines belong together: column -> file.

        Raises:
            InvalidInput: files with unlike numbers of lines.
        """
        paths = {column: found(file)[0] for column, file in files.items()}
        parts = {column: of_text(path) for column, path in paths.items()}
        if len({part.count for part in parts.values()}) > 1:
            counts = ", ".join(f"{part.name} has {part.count:,}" for part in parts.values())
            raise InvalidInput(f"Parallel files have a line for a line; of lines {counts}.")

        def take(start: int, stop: int) -> list[Row]:
            each = [[row["text"] for row in part.take(start, stop)] for part in parts.values()]
            return [dict(zip(parts, texts, strict=True)) for texts in zip(*each, strict=True)]

        first = next(iter(parts.values()))
        name = " and ".join(part.name for part in parts.values())
        return cls([Part(first.count, take, tuple(parts), name, first.lines)])

    def __len__(self) -> int:
        return self.begins[-1]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part, place = self._place(range(len(self))[index])
        return part.take(place, place + 1)[0]

    def _place(self, index: int) -> tuple[Part, int]:
        number = bisect_right(self.begins, index) - 1
        return self.parts[number], index - self.begins[number]

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[int, list[Row]]]:
        """The number of the first row and the rows, of at most `size` at a time. Raises InvalidInput for no mapping."""
        for begin, part in zip(self.begins, self.parts, strict=False):
            for start in range(0, part.count, size):
                rows = part.take(start, min(start + size, part.count))
                for number, row in enumerate(rows, begin + start):
                    if not isinstance(row, Mapping):
                        raise InvalidInput(
                            f"{self.at(number)} is no mapping of column to value, but {type(row).__name__}."
                        )
                yield begin + start, rows

    def __iter__(self) -> Iterator[Row]:
        for _, rows in self.chunks():
            yield from rows

    def where(self, index: int) -> str:
        """Where a row stands, for messages: "row 12", "row 12 of train.parquet", "line 13 of train.csv"."""
        part, place = self._place(index)
        if part.lines is not None:
            return f"line {part.lines[place]} of {part.name}"
        return f"row {place} of {part.name}" if part.name else f"row {place}"

    def at(self, index: int) -> str:
        """The same at the beginning of a sentence."""
        where = self.where(index)
        return where[0].upper() + where[1:]

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the first row."""
        return next(part.columns for part in self.parts if part.count)

    def classes(self, column: str) -> tuple[str, ...] | None:
        """The names of a column's numbers, where the source knows them."""
        return next((part.classes[column] for part in self.parts if column in part.classes), None)


class Stream(list[Any]):
    """The first items of a source without a length, in its order: as many as a run reads in its steps.

    Args:
        source: what is iterated over, once. wanted: examples that a run reads.
    """

    def __init__(self, source: Iterable[Any], wanted: int) -> None:
        super().__init__()
        self.wanted, self._rest = wanted, iter(source)
        self.features = getattr(source, "features", None)  # what knows the names of classes
        self.read()

    def read(self) -> bool:
        """Reads as many items again; whether there were any."""
        found = list(islice(self._rest, self.wanted))
        self += found
        return bool(found)


def is_stream(source: Any) -> bool:
    """Whether a source has no length, so that it may have no end."""
    return isinstance(source, Iterable) and not hasattr(source, "__len__")


def is_live(source: Any) -> bool:
    """Whether a source makes an item when it is asked for its number, so that it may be another each time.

    That is a map-style data set of torch, and a `datasets.Dataset` with a transform.
    """
    if isinstance(source, (str, os.PathLike, Sequence, Mapping, IterableDataset)):
        return False
    if hasattr(source, "column_names") and hasattr(source, "features"):
        return (getattr(source, "format", None) or {}).get("type") == "custom"
    table = hasattr(source, "iloc") or hasattr(source, "num_rows")
    return hasattr(source, "__getitem__") and hasattr(source, "__len__") and not table


def is_path(item: Any) -> bool:
    return isinstance(item, os.PathLike) or (isinstance(item, str) and item.lower().endswith(ENDINGS))


def found(path: str | os.PathLike[str]) -> list[Path]:
    """The files of a path that may have * in it. Raises InvalidInput for a folder."""
    plain = Path(path).expanduser()
    if plain.is_dir():
        raise InvalidInput(f"{plain} is a folder; name its files, such as {plain / '*.jsonl'}.")
    if not plain.exists() and glob.has_magic(str(plain)):
        return [Path(name) for name in sorted(glob.glob(str(plain), recursive=True))] or [plain]
    return [plain]


def of_file(path: Path, whole: bool = False) -> Part:
    """The rows of a file, kept by columns. Raises ModelNotFound, InvalidInput."""
    if path.suffix.lower() == ".parquet" and path.is_file():
        with read_errors(f"{path.name}: as Parquet it", InvalidInput):
            return of_arrow(import_parquet(path).read_table(path, memory_map=True, **parquet_options(path)), path.name)
    if whole:
        texts = [text for text in read_lines(path, whole=True) if text]
        return replace(of_columns({"text": texts}), name=path.name)
    numbers: list[int] = []
    columns: dict[str, list[Any]] = {}
    for count, (line, row) in enumerate(numbered_rows(path)):
        record = checked(row, f"{f'Row {count}' if line is None else f'Line {line}'} of {path.name}")
        for name in record:
            if name not in columns:
                columns[name] = [ABSENT] * count
        for name, values in columns.items():
            values.append(record.get(name, ABSENT))
        numbers += [] if line is None else [line]
    return replace(of_columns(columns), name=path.name, lines=np.array(numbers, np.int64) if numbers else None)


def checked(row: Any, where: str) -> Row:
    """A row of a file as a mapping. Raises InvalidInput for a broken one."""
    if isinstance(row, InvalidInput):
        raise row
    record = {"text": row} if isinstance(row, str) else row
    if not isinstance(record, Mapping):
        raise InvalidInput(f"{where} is no object of column and value, but {type(row).__name__}.")
    return record


def of_text(path: Path) -> Part:
    """The lines of a text file of any ending."""
    texts = list(read_lines(path))
    return replace(of_columns({"text": texts}), name=path.name, lines=np.arange(1, len(texts) + 1))


def of_columns(columns: Mapping[str, Any]) -> Part:
    """Rows of columns of equal length. Raises InvalidInput for unlike ones."""
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput("Columns must be of one length; " + ", ".join(f"{n} has {s:,}" for n, s in sizes.items()))

    def take(start: int, stop: int) -> list[Row]:
        slices = {name: values[start:stop] for name, values in columns.items()}
        return [
            {name: values[i] for name, values in slices.items() if values[i] is not ABSENT} for i in range(stop - start)
        ]

    count = next(iter(sizes.values()), 0)
    return Part(count, take, tuple(take(0, 1)[0]) if count else tuple(columns))


def of_arrow(table: Any, name: str = "") -> Part:
    """Rows of a pyarrow Table, of a file where it has a name; taking one that cannot be read raises InvalidInput."""

    def where(number: int) -> str:
        return f"Row {number} of {name}" if name else f"Row {number}"

    def take(start: int, stop: int) -> list[Row]:
        found = arrow_rows(table.slice(start, stop - start), where, start)
        return [row_or_raise(row) for row in found]

    return Part(table.num_rows, take, tuple(table.column_names), name)


def in_memory(source: Any) -> Part:
    """Rows of what is no path. Raises InvalidInput for what gives no rows."""
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
    return Part(len(items), take, tuple(first) if isinstance(first, Mapping) else (), classes=classes_of(items))


def of_mapping(source: Mapping[str, Any]) -> Part:
    """Rows of a mapping of columns. Raises InvalidInput for a mapping of something else."""
    for name, values in source.items():
        if hasattr(values, "column_names"):
            raise InvalidInput(f"These are several data sets: {', '.join(source)}. Give one, such as data[{name!r}].")
        if not hasattr(values, "__getitem__") or not hasattr(values, "__len__") or isinstance(values, str):
            raise InvalidInput(f"The column {name!r} must be a list of values, not {type(values).__name__}.")
    return of_columns({name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in source.items()})


def is_dataset(source: Any) -> bool:
    """Whether this is a `datasets.Dataset`, which is known by its attributes and never imported."""
    return hasattr(source, "column_names") and hasattr(source, "features") and hasattr(source, "__len__")


def classes_of(source: Any) -> dict[str, tuple[str, ...]]:
    """Column -> names of its numbers, of a `datasets.Dataset` or its like."""
    found = {}
    for name, kind in (getattr(source, "features", None) or {}).items():
        names = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
        if names:
            found[name] = tuple(names)
    return found


def of_dataset(source: Any) -> Part:
    """Rows of a `datasets.Dataset`, which is known by its attributes and never imported."""

    def take(start: int, stop: int) -> list[Row]:
        columns = source[start:stop]
        return [{name: values[i] for name, values in columns.items()} for i in range(stop - start)]

    if (getattr(source, "format", None) or {}).get("type") in ("arrow", "pandas", "polars"):
        source = source.with_format(None)  # which give tables of their own instead of columns
    columns = source[0] if is_live(source) and len(source) else source.column_names  # a transform may give others
    return Part(len(source), take, tuple(columns), classes=classes_of(source))
