"""Where answers go: JSON lines that can be gone on with after a stop, or a terminal that somebody reads."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...config import read_json, write_json
from ...errors import CorruptFile, InvalidInput, ModelNotFound, MultiheadError
from ...files import check_target
from ...pipelines.answers import Failure
from ...terminal import json_visible

ADVICE = "Choose another --output, or pass --overwrite."


def plain(value: Any) -> Any:
    """A value as JSON holds it: numbers of arrays as lists, what JSON has no form for (a date, bytes) as its words."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON has no sign for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def dumped(value: Any) -> str:
    """A value as JSON in one line; numbers that JSON has no sign for are null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=plain, allow_nan=False)
    except (ValueError, TypeError):
        return json.dumps(finite(value), ensure_ascii=False, default=lambda one: finite(plain(one)), allow_nan=False)


def line(number: int, item: Any, answer: Any) -> str:
    """One row of the outcome; halves of characters, which no file holds, are written as JSON's escapes."""
    entry: dict[str, Any] = {"row": number, "input": None if isinstance(item, MultiheadError) else item}
    if isinstance(answer, Failure):
        entry["error"] = str(answer.error)
    else:
        entry["output"] = answer
    return json_visible(dumped(entry))


class Output:
    """A file of JSON lines, beside it a note of what made it, so that a stopped run is gone on with and not mixed up.

    Nothing that is there is changed before the first answer is written. While it is open, no other process writes it.

    Args:
        made: task, model, options, what is read: what must be the same for a run to go on.
        sources: what the run reads, which must not be this file: paths, numbers of open files.

    Attributes:
        done: rows that are there already.

    Raises:
        InvalidInput: the file cannot be written, is read by this run, is written by another one, or was made by
            something else; or there is no folder for it.
    """

    def __init__(
        self, path: Path, made: Mapping[str, Any], *, overwrite: bool = False, sources: Sequence[Path | int | None] = ()
    ) -> None:
        self.path, self.note = path, path.with_name(path.name + ".run.json")
        self.made = json.loads(json.dumps(made, default=str))
        self.done, self._end, self._last = 0, 0, b""
        self._file: Any = None
        for target in (self.path, self.note):
            check_target(target, "--output", sources)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InvalidInput(
                f"Another command is writing {path}. Wait for it, or choose another --output."
            ) from error
        self._fresh = overwrite or not path.exists()
        try:
            if not self._fresh:
                self._check()
                self._count()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """Raises InvalidInput where the note is missing or broken, or says that something else made the file."""
        try:
            known = read_json(self.note)
        except (ModelNotFound, CorruptFile) as error:
            raise InvalidInput(f"{self.path} is there already. What made it is not known: {error} {ADVICE}") from error
        if other := [name for name in {**known, **self.made} if known.get(name) != self.made.get(name)]:
            raise InvalidInput(
                f"{self.path} is there already, made by a command that differs in {' and '.join(other)}. {ADVICE}"
            )

    def _count(self) -> None:
        """Counts the rows that are there by their numbers; one that was cut off in the middle is none."""
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
        """The items whose answers are not there yet.

        Raises:
            InvalidInput: there are fewer items than answers, or the last answer is of another item.
        """
        found, count, last = iter(items), 0, None
        for count, last in enumerate(islice(found, self.done), 1):  # noqa: B007
            continue
        if count < self.done:
            raise InvalidInput(f"{self.path} has {self.done} rows, and there are only {count} to answer. {ADVICE}")
        stored = self._stored()
        if stored is not None and json.loads(line(0, last, None))["input"] != stored:
            raise InvalidInput(
                f"Row {self.done - 1} of {self.path} answers another input than the row that now has this number: what "
                f"is read has changed. {ADVICE}"
            )
        return found

    def _stored(self) -> Any:
        """The input of the last row that is there; None where it could not be read. Raises InvalidInput for no row."""
        try:
            return json.loads(self._last)["input"] if self.done else None
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"Line {self.done} of {self.path} is no row of a run: {error}. {ADVICE}") from error

    def write(self, number: int, item: Any, answer: Any) -> None:
        """Adds a row, which is on the disk when this returns, as far as the process goes. Raises InvalidInput."""
        left = memoryview((line(number, item, answer) + "\n").encode())
        try:
            if self._file is None:
                self._file = self._opened()
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise InvalidInput(
                f"Row {number} cannot be written to {self.path}: {error.strerror or error}. The rows before are there; "
                "make room, and the same command goes on after them."
            ) from error

    def _opened(self) -> Any:
        """The file, with rows that are whole; a new one, never a link's target, where it begins."""
        if not self._fresh:
            os.truncate(self.path, self._end)
            return self.path.open("ab", buffering=0)
        self.path.unlink(missing_ok=True)
        write_json(self.note, self.made)
        return self.path.open("xb", buffering=0)

    def finish(self) -> None:
        """All rows are written; where there are none, the file is empty."""
        if self._file is None and self._fresh:
            self._file = self._opened()

    def close(self) -> None:
        """Lets others write."""
        if self._file is not None:
            self._file.close()
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
