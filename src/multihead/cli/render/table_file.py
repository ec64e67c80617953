"""Output files of `multihead run` that are tables (CSV, TSV, Parquet), written whole after the last row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...data_files import import_parquet
from ...errors import InvalidInput, read_errors
from ...files import check_target, replace_file
from .csv_text import SEPARATORS, csv_cell, csv_writer
from .flat_rows import Columns, LongInt, columns_of
from .output_file import ADVICE, Output, output_row

ENDINGS = (*SEPARATORS, ".parquet")
OTHER_FORMATS = (".gz", ".bz2", ".xz", ".zst", ".zip", ".xls", ".xlsx", ".ods", ".feather", ".arrow", ".orc", ".h5")
BATCH = 10_000  # rows of a row group


def open_output(path: Path, record: Mapping[str, Any], *, varied: bool, source: Path | None, **options: Any) -> Output:
    """Return the output of a run by its suffix: a table, or JSON lines.

    Args:
        varied: answers are lists whose length depends on the text. source: the file of inputs, if any.
        options: of `Output`.

    Raises:
        InvalidInput: as `Output`, and for the suffix of a format that is not written.
    """
    ending = path.suffix.lower()
    if ending in OTHER_FORMATS:
        raise InvalidInput(f"{path.name} cannot be written: the suffixes are .jsonl, {', '.join(ENDINGS)}.")
    if ending not in ENDINGS:
        return Output(path, record, **options)
    return TableOutput(path, record, varied=varied, source=source, **options)


class TableOutput(Output):
    """Table of answers. Until the last row is answered, the rows are JSON lines in a hidden file beside it.

    By these a stopped run continues. When the table is whole, they are removed.

    Args:
        path: of the table. varied: answers are lists whose length depends on the text.
        source: file of inputs; the types of a Parquet file's columns are kept.

    Raises:
        InvalidInput: as `Output`; the table is there already; pyarrow is missing.
    """

    def __init__(
        self,
        path: Path,
        record: Mapping[str, Any],
        *,
        varied: bool,
        source: Path | None,
        overwrite: bool = False,
        sources: Sequence[Path | int | None] = (),
    ) -> None:
        self.table, self.varied, self.source = path, varied, source
        check_target(path, "--output", sources)
        rows = path.with_name(f".{path.name}.rows.jsonl")
        if path.exists() and not overwrite and not rows.exists():
            raise InvalidInput(f"{path} exists already. {ADVICE}")
        if path.suffix.lower() == ".parquet":
            import_parquet(path)
        self._checked = False
        super().__init__(rows, record, overwrite=overwrite, sources=sources)

    @property
    def progress(self) -> str:
        return f"Every row answered so far is kept beside {self.table}, which is written at the end."

    def write(self, number: int, item: Any, answer: Any, notices: Sequence[str] = ()) -> None:
        if not self._checked:
            row = json.loads(output_row(number, item, answer, notices))
            self._checked = "output" in row
            columns_of([row], [row], self.varied)
        super().write(number, item, answer, notices)

    def finish(self) -> None:
        """Write the table and remove the rows. Raises InvalidInput."""
        super().finish()
        self.close_file()
        columns = columns_of(self._rows(), self._rows(), self.varied)
        try:
            with replace_file(self.table) as new:
                if self.table.suffix.lower() == ".parquet":
                    self._write_parquet(new, columns)
                else:
                    self._write_csv(new, columns)
        except OSError as error:
            raise InvalidInput(
                f"{self.table} cannot be written: {error.strerror or error}. Its rows are in {self.path.name}; make "
                "room, and the same command writes it."
            ) from error
        self.path.unlink()
        self.record_path.unlink(missing_ok=True)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            yield from map(json.loads, file)

    def _write_csv(self, path: Path, columns: Columns) -> None:
        names = columns.names
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv_writer(file, self.table.suffix.lower())
            writer.writerow(names)
            for row in self._rows():
                cells = columns.cells(row)
                writer.writerow([csv_cell(cells.get(name)) for name in names])

    def _write_parquet(self, path: Path, columns: Columns) -> None:
        parquet = import_parquet(path)
        import pyarrow as pa

        names, types = columns.names, {**arrow_types(columns), **self._source_types(columns)}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
        rows = self._rows()
        with parquet.ParquetWriter(path, schema) as writer:
            while batch := [columns.cells(row) for row in islice(rows, BATCH)]:
                arrays = [arrow_column([row.get(name) for row in batch], schema.field(name).type) for name in names]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

    def _source_types(self, columns: Columns) -> dict[str, Any]:
        """Return the types of kept columns in a Parquet file of inputs, of those that a JSON value can become again."""
        if self.source is None or self.source.suffix.lower() != ".parquet":
            return {}
        import pyarrow.types as types

        with read_errors(f"{self.source.name}: as Parquet it", InvalidInput):
            schema = import_parquet(self.source).read_schema(self.source)
        plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_date, types.is_time,
                 types.is_timestamp, types.is_decimal)  # fmt: skip
        return {
            name: schema.field(name).type
            for name in columns.kept
            if name in schema.names and any(is_plain(schema.field(name).type) for is_plain in plain)
        }


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
