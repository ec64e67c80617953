"""Where answers go: JSON lines that can be gone on with after a stop, or a terminal that somebody reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, MultiheadError
from ..tasks.answers import Failure


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON.")


def line(number: int, item: Any, answer: Any) -> str:
    """One row of the outcome."""
    entry: dict[str, Any] = {"row": number, "input": None if isinstance(item, MultiheadError) else item}
    if isinstance(answer, Failure):
        entry["error"] = str(answer.error)
    else:
        entry["output"] = answer
    return json.dumps(entry, ensure_ascii=False, default=plain)


class Output:
    """A file of JSON lines, beside it a note of what made it, so that a stopped run is gone on with and not mixed up.

    Args:
        made: task, model, options, the file read: what must be the same for a run to go on.

    Raises:
        InvalidInput: the file is there, and something else made it.
    """

    def __init__(self, path: Path, made: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path, self.note = path, path.with_name(path.name + ".run.json")
        made = json.loads(json.dumps(made, default=str))
        if overwrite:
            for old in (path, self.note):
                old.unlink(missing_ok=True)
        if path.exists():
            known = json.loads(self.note.read_text()) if self.note.exists() else None
            if known != made:
                other = [k for k in made if known is not None and known.get(k) != made[k]]
                what = f"another {other[0]}" if other else "something else"
                raise InvalidInput(
                    f"{path} is there already, and was made with {what}. Choose another --output, or pass --overwrite."
                )
        self.note.write_text(json.dumps(made, indent=2) + "\n")
        self.done = self._whole()
        self.file = path.open("a", encoding="utf-8")

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
