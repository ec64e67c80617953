"""Embeddings of a run that is not finished: parts of a few thousand rows, by which a stopped run continues."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import read_json, write_json
from ..errors import CorruptFile, InvalidInput, ModelNotFound, read_errors
from ..files import replace_file
from ..pipelines.batch_inference.json_rows import to_json
from ..pipelines.batch_inference.output_lock import OutputLock
from ..retrieval.embedding import Embedded
from .text_rows import TextRow, sentence

ADVICE = "Choose another output, or begin again with --overwrite."
RECORD_FILE = "run.json"


@dataclass(frozen=True)
class Part:
    """Rows of a window.

    Args:
        rows: {"row", "id"} of each row, with "error" if it has no vector, in which case `vectors` has no row for it.
        vectors: float32 (rows, width). digest: of all texts and ids up to the end of the part.
    """

    rows: list[dict[str, Any]]
    vectors: Any
    digest: str


class Parts:
    """Folder of parts beside an output (`.NAME.parts`). A part is there as a whole or not at all.

    Args:
        output: the file or folder that is made of the parts in the end.
        record: everything that changes an embedding; a run continues only one with the same record.
        overwrite: begin again if the record is another.

    Attributes:
        count: number of parts. rows: number of rows in them.

    Raises:
        InvalidInput: another run writes the output, or the parts are of another run.
    """

    def __init__(self, output: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
        self.output, self.folder = output, output.with_name(f".{output.name}.parts")
        self.record = json.loads(json.dumps(record, default=str))
        self._lock = OutputLock(output)
        self.count = self.rows = 0
        self._digest = hashlib.sha256()
        try:
            self._open(overwrite)
        except BaseException:
            self.close()
            raise

    def _open(self, fresh: bool) -> None:
        """Count the parts of an earlier run, or begin a folder."""
        left = self._rows_file(0).is_file()  # without a part there is nothing to mix
        if fresh and left and not self._same_record():
            shutil.rmtree(self.folder)
        elif left and not self._same_record():
            raise InvalidInput(
                f"A stopped command has left embeddings for {self.output}, and it differs in "
                f"{' and '.join(self._differences())}. {ADVICE} Or remove {self.folder}."
            )
        self.folder.mkdir(exist_ok=True)
        write_json(self.folder / RECORD_FILE, self.record)
        while self._rows_file(self.count).is_file():
            self.rows += len(self.read(self.count).rows)
            self.count += 1

    def _same_record(self) -> bool:
        return not self._differences()

    def _differences(self) -> list[str]:
        try:
            known = read_json(self.folder / RECORD_FILE)
        except (ModelNotFound, CorruptFile):
            return ["a description that is not there"]
        return [name for name in {**known, **self.record} if known.get(name) != self.record.get(name)]

    def _rows_file(self, number: int) -> Path:
        return self.folder / f"{number:06}.json"

    def _vectors_file(self, number: int) -> Path:
        return self.folder / f"{number:06}.npy"

    def skip(self, rows: Iterator[TextRow]) -> None:
        """Read the rows that the parts have. Raises InvalidInput if they are not what was embedded."""
        done = 0
        while done < self.rows and (row := next(rows, None)) is not None:
            self._add_to_digest(row)
            done += 1
        if done < self.rows or (self.count and self.read(self.count - 1).digest != self._digest.hexdigest()):
            raise InvalidInput(
                f"The {self.rows} rows that a stopped command has embedded for {self.output} are not those that are "
                f"read now. {ADVICE} Or remove {self.folder}."
            )

    def begin_again(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder)
        self.count = self.rows = 0
        self._digest = hashlib.sha256()
        self._open(True)

    def _add_to_digest(self, row: TextRow) -> None:
        text = row.text if isinstance(row.text, str) else f"\0{row.text!r}"
        line = json.dumps([row.id, text], default=str)
        self._digest.update(line.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, window: list[TextRow], found: Embedded) -> Part:
        """Write a part.

        Raises:
            InvalidInput: a full disk; what was written before stays.
        """
        for row in window:
            self._add_to_digest(row)
        part = Part(part_rows(window, found), found.vectors, self._digest.hexdigest())
        try:
            with replace_file(self._vectors_file(self.count)) as new, new.open("wb") as file:
                np.save(file, part.vectors, allow_pickle=False)
            with replace_file(self._rows_file(self.count)) as new:  # the last of the two
                new.write_text(to_json({"digest": part.digest, "rows": part.rows}), "utf-8", "backslashreplace")
        except OSError as error:
            raise InvalidInput(
                f"Row {window[0].number} and those after it cannot be written: {error.strerror or error}. The rows "
                "before are kept; make room, and the same command continues after them."
            ) from error
        self.count, self.rows = self.count + 1, self.rows + len(window)
        return part

    def read(self, number: int) -> Part:
        """Return a part. Raises CorruptFile."""
        path = self._rows_file(number)
        with read_errors(path, CorruptFile, f"Remove {self.folder} to begin again."):
            entries = json.loads(path.read_text("utf-8"))
            vectors = np.load(self._vectors_file(number), allow_pickle=False)
            part = Part(entries["rows"], vectors, entries["digest"])
            if vectors.ndim != 2 or len(vectors) != sum("error" not in row for row in part.rows):
                raise CorruptFile(f"{path} does not fit its vectors. Remove {self.folder} to begin again.")
            return part

    def __iter__(self) -> Iterator[Part]:
        return map(self.read, range(self.count))

    def remove(self) -> None:
        """Remove the parts, which the output holds now."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()


def part_rows(window: list[TextRow], found: Embedded) -> list[dict[str, Any]]:
    """Return {"row", "id"} of each row, with "error" if it has no vector."""
    rows = []
    for place, row in enumerate(window):
        entry: dict[str, Any] = {"row": row.number, "id": row.id}
        if place in found.errors:
            entry["error"] = f"Row {row.number} {sentence(found.errors[place])}"
        rows.append(entry)
    return rows
