"""One trial: a damaged copy of a good folder is read, and what came of it has a name."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from multihead.errors import MultiheadError

from .formats import Format, alike

CLEAR, SAME, HONEST, DIFFERENT, RAW = "clear", "same", "honest", "different", "raw"


class Good:
    """The good folder of a format, and what is read of it."""

    def __init__(self, form: Format, root: Path) -> None:
        self.form, self.folder, self.spare = form, root / "good", root / "damaged"
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            form.make(self.folder)
        self.contents = {name: (self.folder / name).read_bytes() for name in self.names()}
        self.found: dict[str, Any] = {}

    def names(self) -> list[str]:
        """The files that are damaged, one in a trial; of a folder of families each one's."""
        found = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        direct = [name for name in self.form.damaged if name in found]
        return direct or sorted(name for name in found if Path(name).name in self.form.damaged)

    def copied(self, name: str, data: bytes) -> Path:
        """A copy whose file of this name has other bytes; of families, the one that is damaged alone."""
        shutil.rmtree(self.spare, ignore_errors=True)
        self.spare.mkdir(parents=True)
        alone = name not in self.form.damaged
        source = self.folder / Path(name).parts[0] if alone else self.folder
        target = self.spare / Path(name).parts[0] if alone else self.spare
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
        (self.spare / name).unlink()
        (self.spare / name).write_bytes(data)
        return self.spare

    def expected(self, name: str) -> Any:
        """What the undamaged folder gives."""
        key = Path(name).parts[0] if name not in self.form.damaged else ""
        if key not in self.found:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.found[key] = self.form.read(self.copied(name, self.contents[name]))
        return self.found[key]

    def trial(self, number: int) -> tuple[str, str]:
        """The outcome of the mutation that a number draws, and a line that tells of it."""
        random = Random(number)
        name = random.choice(list(self.contents))
        expected = self.expected(name)
        data, honest = self.form.mutate(random, self.contents[name])
        folder = self.copied(name, data)
        self.form.after(folder)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            outcome, told = read(self.form, folder, expected)
        words = [str(w.message) for w in said if issubclass(w.category, UserWarning)]
        if outcome == DIFFERENT and (honest is True or (honest and any(honest in each for each in words))):
            outcome = HONEST
        return outcome, f"{name}: {told}"


def read(form: Format, folder: Path, expected: Any) -> tuple[str, str]:
    """What reading a damaged folder comes to: honest only where another reader says the same, if there is one."""
    try:
        found = form.read(folder)
    except MultiheadError as error:
        return CLEAR, f"{type(error).__name__}: {str(error)[:200]}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return RAW, f"{type(error).__name__}: {str(error)[:300]} {place(error)}"
    if form.says is not None and not alike(found, said := form.says(folder)):
        return DIFFERENT, f"{str(found)[:200]} where another reader gives {str(said)[:200]}"
    return (SAME, "") if alike(found, expected) else (DIFFERENT, "")


def place(error: BaseException) -> str:
    """Where an error came up, in this library."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "multihead" in file:
            found = f"({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def counted(outcomes: Mapping[str, int]) -> str:
    names = (CLEAR, SAME, HONEST, DIFFERENT, RAW, "crash", "hang", "memory")
    return " ".join(f"{outcomes.get(name, 0)} {name}" for name in names)
