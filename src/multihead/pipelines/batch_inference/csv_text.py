"""CSV and TSV that every reader splits at the same places."""

from __future__ import annotations

import csv
import json
from typing import Any, TextIO

SEPARATORS = {".csv": ",", ".tsv": "\t"}


class LineEnds:
    """File for a csv writer that ends rows with CRLF, and so quotes both characters in cells; here they end with LF."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def csv_writer(file: TextIO, ending: str) -> Any:
    """Return a writer of rows, lists of cells. The file must be open with newline=""."""
    return csv.writer(LineEnds(file), delimiter=SEPARATORS[ending])


def csv_cell(value: Any) -> Any:
    """Return a cell as CSV has it: true and false as in JSON."""
    return json.dumps(value) if isinstance(value, bool) else value
