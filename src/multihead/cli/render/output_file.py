"""Output files of `multihead run`: JSON lines that a stopped run can continue."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...config import read_json, write_json
from ...errors import CorruptFile, InvalidInput, ModelNotFound
from ...files import check_target
from ...pipelines.batch_inference.columns import ROW_KEYS
from ...pipelines.batch_inference.json_rows import output_row
from ...pipelines.batch_inference.output_lock import OutputLock

ADVICE = "Choose another --output, or pass --overwrite."


class Output:
    """File of JSON lines, with a record of the run beside it (`NAME.run.json`), by which a stopped run continues.

    Nothing in an existing file changes before the first answer is written. While it is open, a lock keeps other
    processes from writing it.

    Args:
        record: task, model, options and sources; they must be equal for a run to continue.
        sources: what the run reads, which must not be this file: paths, numbers of open files.

    Attributes:
        done: number of rows in the file.

    Raises:
        InvalidInput: the file cannot be written, is read by this run, is written by another one, or belongs to another
            command; or its folder does not exist.
    """

    def __init__(
        self,
        path: Path,
        record: Mapping[str, Any],
        *,
        overwrite: bool = False,
        sources: Sequence[Path | int | None] = (),
    ) -> None:
        self.path, self.record_path = path, path.with_name(path.name + ".run.json")
        self.record = json.loads(json.dumps(record, default=str))
        self.done, self._end, self._last = 0, 0, b""
        self._file: Any = None
        for target in (self.path, self.record_path):
            check_target(target, "--output", sources)
        self._lock = OutputLock(path)
        self._fresh = overwrite or not path.exists()
        try:
            if not self._fresh:
                self._check()
                self._count()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """Raise InvalidInput if the record is missing or broken, or is that of another command."""
        try:
            known = read_json(self.record_path)
        except (ModelNotFound, CorruptFile) as error:
            raise InvalidInput(f"{self.path} exists already, and its command is not known: {error} {ADVICE}") from error
        if other := [name for name in {**known, **self.record} if known.get(name) != self.record.get(name)]:
            raise InvalidInput(
                f"{self.path} exists already, made by a command that differs in {' and '.join(other)}. {ADVICE}"
            )

    def _count(self) -> None:
        """Count the whole rows of the file and check their numbers."""
        with self.path.open("rb") as file:
            for number, row in enumerate(file):
                if not row.endswith(b"\n"):
                    break
                if not row.startswith(b'{"row": %d, ' % number):
                    raise InvalidInput(
                        f"Line {number + 1} of {self.path} is not row {number}: several commands have written it, or "
                        f"something changed it. {ADVICE}"
                    )
                self.done, self._end, self._last = number + 1, self._end + len(row), row

    def rest(self, items: Iterable[Any]) -> Iterator[Any]:
        """Return the items without an answer in the file.

        Raises:
            InvalidInput: there are fewer items than answers, or the last answer is of another item.
        """
        rows, count, last = iter(items), 0, None
        for count, last in enumerate(islice(rows, self.done), 1):  # noqa: B007
            continue
        if count < self.done:
            raise InvalidInput(f"{self.path} has {self.done} rows, and there are only {count} to answer. {ADVICE}")
        stored = self._stored()
        given = {} if not stored else json.loads(output_row(self.done - 1, last, None))
        if any(given.get(name) != value for name, value in stored.items()):
            raise InvalidInput(
                f"Row {self.done - 1} of {self.path} answers another input than the row that now has this number: what "
                f"is read has changed. {ADVICE}"
            )
        return rows

    def _stored(self) -> dict[str, Any]:
        """Return the input and kept columns of the last row, but not nulls. Raises InvalidInput for a broken row."""
        try:
            row = {**json.loads(self._last)} if self.done else {"input": None}
            names = ("input", *(name for name in row if name not in ROW_KEYS))
            return {name: row[name] for name in names if row[name] is not None}
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"Line {self.done} of {self.path} is no row of a run: {error}. {ADVICE}") from error

    @property
    def progress(self) -> str:
        """Statement on what a stopped run leaves."""
        return f"{self.path} has every row answered so far."

    def write(self, number: int, item: Any, answer: Any, notices: Sequence[str] = ()) -> None:
        """Write a row to the file, unbuffered. Raises InvalidInput."""
        left = memoryview((output_row(number, item, answer, notices) + "\n").encode())
        try:
            if self._file is None:
                self._file = self._open()
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise InvalidInput(
                f"Row {number} cannot be written to {self.path}: {error.strerror or error}. The rows before are there; "
                "make room, and the same command goes on after them."
            ) from error

    def _open(self) -> Any:
        """Open the file after its last whole row, or a new file, which never is the target of a link."""
        if not self._fresh:
            os.truncate(self.path, self._end)
            return self.path.open("ab", buffering=0)
        self.path.unlink(missing_ok=True)
        write_json(self.record_path, self.record)
        return self.path.open("xb", buffering=0)

    def finish(self) -> None:
        """Create an empty file if no row was written."""
        if self._file is None and self._fresh:
            self._file = self._open()

    def close_file(self) -> None:
        """Close the file; the lock stays."""
        if self._file is not None:
            self._file.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        self.close_file()
        self._lock.release()
