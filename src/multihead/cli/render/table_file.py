"""Output files of `multihead run` that are tables (CSV, TSV, Parquet, Arrow), written whole after the last row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data_files import import_arrow
from ...errors import InvalidInput
from ...files import check_target, replace_file
from ...pipelines.batch_inference.flat_rows import columns_of
from ...pipelines.batch_inference.json_rows import output_row
from ...pipelines.batch_inference.tables import ARROW_ENDINGS, ENDINGS, write_table
from .output_file import ADVICE, Output

OTHER_FORMATS = (".gz", ".bz2", ".xz", ".zst", ".zip", ".xls", ".xlsx", ".ods", ".feather", ".orc", ".h5")


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
        source: file of inputs; the types of the columns of a Parquet or Arrow file are kept.

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
        if path.suffix.lower() in ARROW_ENDINGS:
            import_arrow(path)
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
                write_table(new, self._rows(), columns, [] if self.source is None else [self.source])
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
