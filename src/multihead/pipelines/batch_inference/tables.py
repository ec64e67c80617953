"""Tables of a run's rows: CSV, TSV, Parquet and Arrow files, whose rows are read one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...data_files import import_arrow, read_schema
from .csv_text import SEPARATORS, csv_cell, csv_writer
from .flat_rows import Columns, LongInt

ARROW_ENDINGS = (".parquet", ".arrow")
ENDINGS = (*SEPARATORS, *ARROW_ENDINGS)
BATCH = 10_000  # rows of a row group


def write_table(path: Path, rows: Iterator[Mapping[str, Any]], columns: Columns, sources: Sequence[Path] = ()) -> None:
    """Write rows as the table that the suffix of a path names.

    Args:
        sources: files of inputs, whose types kept columns have again.
    """
    if path.suffix.lower() in ARROW_ENDINGS:
        write_arrow(path, rows, columns, sources)
        return
    names = columns.names
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv_writer(file, path.suffix.lower())
        writer.writerow(names)
        for row in rows:
            cells = columns.cells(row)
            writer.writerow([csv_cell(cells.get(name)) for name in names])


def write_arrow(path: Path, rows: Iterator[Mapping[str, Any]], columns: Columns, sources: Sequence[Path]) -> None:
    """Write rows as a Parquet file, or as a file of Arrow's IPC format."""
    pa = import_arrow(path)
    names, types = columns.names, {**arrow_types(columns), **source_types(columns, sources)}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    with open_writer(path, schema) as writer:
        while batch := [columns.cells(row) for row in islice(rows, BATCH)]:
            arrays = [arrow_column([row.get(name) for row in batch], schema.field(name).type) for name in names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def open_writer(path: Path, schema: Any) -> Any:
    """Return the writer of tables to a file."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.ParquetWriter(path, schema)
    import pyarrow.ipc

    return pyarrow.ipc.new_file(str(path), schema)


def source_types(columns: Columns, sources: Iterable[Path]) -> dict[str, Any]:
    """Return the types of kept columns in files of inputs, of those that a JSON value can become again.

    A column whose type is not the same in all files has none.
    """
    schemas = [schema for path in sources if (schema := read_schema(path)) is not None]
    if not schemas:
        return {}
    import pyarrow.types as types

    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_date, types.is_time,
             types.is_timestamp, types.is_decimal)  # fmt: skip
    found: dict[str, Any] = {}
    for name in columns.kept:
        own = [schema.field(name).type if name in schema.names else None for schema in schemas]
        if own[0] is not None and all(other == own[0] for other in own) and any(is_one(own[0]) for is_one in plain):
            found[name] = own[0]
    return found


def arrow_types(columns: Columns) -> dict[str, Any]:
    """Return the Arrow type of each column by the types of its cells; text for mixed ones."""
    import pyarrow as pa

    found: dict[str, Any] = {"row": pa.int64()}
    for name, types in columns.types.items():
        if types <= {int, LongInt}:
            found[name] = pa.int64()
        elif types <= {int, float}:
            found[name] = pa.float64()
        elif types == {bool}:
            found[name] = pa.bool_()
    return found


def arrow_column(values: list[Any], type_: Any) -> Any:
    """Return an Arrow array of cells, text for all others where the type is text."""
    import pyarrow as pa

    if pa.types.is_string(type_):
        return pa.array([None if value is None else str(csv_cell(value)) for value in values], type_)
    try:
        return pa.array(values, type_)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
        texts = [None if value is None else str(value) for value in values]
        if pa.types.is_time(type_):  # to which Arrow casts no text
            days = [None if text is None else f"1970-01-01 {text}" for text in texts]
            return pa.array(days, pa.string()).cast(pa.timestamp("us")).cast(type_)
        return pa.array(texts).cast(type_)
