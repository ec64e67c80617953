"""Where answers go: JSON lines that can be gone on with after a stop, or a terminal that somebody reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..config import read_json
from ..errors import CorruptFile, InvalidInput, ModelNotFound, MultiheadError
from ..tasks.answers import Failure


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON.")


def line(number: int, item: Any, answer: Any) -> str:
    """One row of the outcome; halves of characters, which no file holds, are written as JSON's escapes."""
    entry: dict[str, Any] = {"row": number, "input": None if isinstance(item, MultiheadError) else item}
    if isinstance(answer, Failure):
        entry["error"] = str(answer.error)
    else:
        entry["output"] = answer
    return json.dumps(entry, ensure_ascii=False, default=plain).encode("utf-8", "backslashreplace").decode()


class Output:
    """A file of JSON lines, beside it a note of what made it, so that a stopped run is gone on with and not mixed up.

    Args:
        made: task, model, options, what is read: what must be the same for a run to go on.

    Raises:
        InvalidInput: the file is there, and something else made it; there is no folder for it.
    """

    def __init__(self, path: Path, made: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path, self.note = path, path.with_name(path.name + ".run.json")
        made = json.loads(json.dumps(made, default=str))
        if overwrite:
            for old in (path, self.note):
                old.unlink(missing_ok=True)
        if path.exists():
            self._check(made)
        elif not path.parent.is_dir():
            raise InvalidInput(f"There is no folder {path.parent} to write {path.name} in. Make it first.")
        else:
            self.note.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        self.done = self._whole()
        self.file = path.open("a", encoding="utf-8")

    def _check(self, made: Mapping[str, Any]) -> None:
        """Raises InvalidInput where the note is missing or broken, or says that something else made the file."""
        advice = "Choose another --output, or pass --overwrite."
        try:
            known = read_json(self.note)
        except (ModelNotFound, CorruptFile) as error:
            raise InvalidInput(f"{self.path} is there already. What made it is not known: {error} {advice}") from error
        if other := [name for name in {**known, **made} if known.get(name) != made.get(name)]:
            raise InvalidInput(
                f"{self.path} is there already, made by a command that differs in {' and '.join(other)}. {advice}"
            )

    def _whole(self) -> int:
        """Rows that are there; one that was cut off in the middle is dropped."""
        if not self.path.exists():
            return 0
        count = end = 0
        with self.path.open("rb") as file:
            for row in file:
                if not row.endswith(b"\n"):
                    break
                count, end = count + 1, end + len(row)
        with self.path.open("rb+") as file:
            file.truncate(end)
        return count

    def rest(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items whose answers are not there yet."""
        return islice(iter(items), self.done, None)

    def write(self, number: int, item: Any, answer: Any) -> None:
        """Adds a row, which is on the disk when this returns, as far as the process goes."""
        self.file.write(line(number, item, answer) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()
