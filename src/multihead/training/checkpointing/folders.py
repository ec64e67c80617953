"""Checkpoints of a run that never lose work: written under a temporary name, made durable, then renamed whole.

A folder `checkpoint-STEP` holds the model as `save_pretrained` writes it, the run's own state, and a manifest of all
files with their sizes and hashes. A folder without a manifest that fits is no checkpoint, and one that holds a file
which its manifest does not name is not gone on with.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ...config import read_json, write_json
from ...errors import CheckpointBroken, CheckpointNotWritten, MultiheadError, UnsafeFile, warn
from ...files import INNER, abandoned, check_folder, clear, exchange, staged

MANIFEST = "checkpoint.json"
RUN_FILE = "run.json"
PREFIX, OLD = "checkpoint-", "old"
# The manifest, also half written, and what file managers and file systems leave behind: nothing else reads these.
UNNAMED = re.compile(
    r"\.?checkpoint\.json(\.tmp)?(\.\w+\.tmp)?(/(lock|new(\.\w+)?))?|"
    r"(.*/)?(\.DS_Store|\._[^/]+|Thumbs\.db|desktop\.ini|\.directory|\.nfs[0-9a-f]+)"
)


class Checkpoints:
    """The checkpoints of one run, in its output folder, beside which those of other runs may lie.

    Args:
        keep: how many are kept, the newest and the best among them in any case; None for all.

    Attributes:
        run: the identity of the run, which the `run.json` of its checkpoints has; None before it begins.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        self.folder, self.keep = folder, keep
        self.run: str | None = None

    def path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step}"

    def own(self) -> list[Path]:
        """Those of this run, from the first step to the last, whole or not."""
        return [path for path in self.all() if self.run is not None and run_of(path) == self.run]

    def all(self) -> list[Path]:
        """Those of all runs, from the first step to the last, whole or not."""
        if not self.folder.is_dir():
            return []
        found = [(int(m[1]), p) for p in self.folder.iterdir() if (m := re.fullmatch(rf"{PREFIX}(\d+)", p.name))]
        return [path for _, path in sorted(found)]

    def save(self, step: int, write: Callable[[Path], None], best: Path | None = None) -> Path:
        """Writes one, then lets the oldest of this run go.

        Args:
            write: puts the files into a folder. best: a checkpoint that is not let go.

        Raises:
            CheckpointNotWritten: the disk is full, or the folder cannot be written; those before are untouched.
        """
        final = self.path(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.recover()
            with staged(self.folder, final.name) as temporary:
                temporary.mkdir()
                write(temporary)
                _seal(temporary)
                _replace(temporary, final)
        except (OSError, MultiheadError) as error:
            raise self._refused(step, error) from error
        self._let_go(final, best)
        return final

    def sequence(self) -> int:
        """How many checkpoints have been written here, by all runs, as the last of them tells."""
        return max(map(_number, self.all()), default=0)

    def newest(self) -> Path | None:
        """The last whole checkpoint of the run that was the last to write here.

        Broken ones are passed over with a warning that names what is wrong. Raises UnsafeFile where a file was added.
        """
        if self.folder.is_dir() and os.access(self.folder, os.W_OK):
            self.recover()
        return whole(_by_runs(self.all()))

    def recover(self) -> None:
        """Gives what a killed process left its place where it is whole and nothing stands there, and removes the rest.

        What is being written, here or in another container, stays.
        """
        for path in sorted(self.folder.glob(f".{PREFIX}*.tmp")):
            name = re.fullmatch(rf"\.({PREFIX}\d+)\..*", path.name)
            with suppress(OSError), abandoned(path) as free:
                if free and name is not None:
                    _recovered(path, self.folder / name[1])
        clear(self.folder, f".{PREFIX}*.tmp")

    def probe(self, needed: int) -> None:
        """Raises CheckpointNotWritten where checkpoints of so many bytes, at least, cannot be written."""
        try:
            check_folder(self.folder)
            free = shutil.disk_usage(self.folder).free
        except (OSError, MultiheadError) as error:
            raise CheckpointNotWritten(f"No checkpoint could be written: {error} Choose another output_dir.") from error
        if free < needed:
            raise CheckpointNotWritten(
                f"No checkpoint could be written: {self.folder} has {free / 1e6:,.0f} MB left, and what is trained "
                f"takes {needed / 1e6:,.0f} MB at least. Make room, or choose another output_dir."
            )

    def _let_go(self, *kept: Path | None) -> None:
        """Lets the oldest of this run go; those `kept` stay, however few may."""
        if self.keep is None:
            return
        stay = {path.name for path in kept if path is not None and path.exists()}
        others = [path for path in self.own() if path.name not in stay]
        for path in others[: max(len(others) + len(stay) - self.keep, 0)]:
            shutil.rmtree(path, ignore_errors=True)

    def _refused(self, step: int, error: Exception) -> CheckpointNotWritten:
        cause = error.__cause__ if isinstance(error, MultiheadError) and error.__cause__ else error
        full = (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)) or "No space left" in str(
            error
        )
        why = "the disk is full" if full else str(error).rstrip(".")
        last = next(reversed(self.own()), None)
        kept = f"The last good checkpoint is {last}" if last else "There is no earlier checkpoint"
        advice = "Make room" if full else "Mend it"
        return CheckpointNotWritten(
            f"The checkpoint of step {step} could not be written to {self.folder}: {why}. {kept}. {advice}, then go on "
            "with resume_from_checkpoint=True."
        )


def run_of(path: Path) -> str | None:
    """The identity of the run that wrote a checkpoint; None where it tells none."""
    try:
        told = read_json(path / RUN_FILE).get("run")
    except MultiheadError:
        return None
    return told if isinstance(told, str) else None


def whole(paths: Sequence[Path]) -> Path | None:
    """The last of these that is whole; broken ones are passed over with a warning.

    Raises:
        UnsafeFile: a file was added to one.
    """
    for path in reversed(paths):
        try:
            check(path)
        except CheckpointBroken as error:
            warn(f"{error} It is passed over.")
            continue
        return path
    return None


def _by_runs(paths: Sequence[Path]) -> list[Path]:
    """Checkpoints run by run, the run that was the last to write at the end, each in the order of steps."""
    runs: dict[str | None, list[Path]] = {}
    for path in paths:
        runs.setdefault(run_of(path), []).append(path)
    return [path for run in sorted(runs.values(), key=_last) for path in run]


def _last(paths: Sequence[Path]) -> tuple[int, int]:
    """What orders runs: the number of the last checkpoint in its folder, and the time where it has none."""
    return max(map(_number, paths), default=0), _written(paths)


def _number(path: Path) -> int:
    """How many checkpoints had been written into its folder with this one; 0 where it does not tell."""
    try:
        told = read_json(path / RUN_FILE).get("sequence") if (path / MANIFEST).is_file() else None
    except MultiheadError:
        return 0
    return told if isinstance(told, int) else 0


def _written(paths: Sequence[Path]) -> int:
    """When the last of these was sealed, in nanoseconds; 0 for none."""
    return max((p.stat().st_mtime_ns for path in paths if (p := path / MANIFEST).is_file()), default=0)


def check(path: Path) -> None:
    """Raises CheckpointBroken unless every file is as its manifest says, UnsafeFile for a file it does not name."""
    if not (path / MANIFEST).is_file():
        raise CheckpointBroken(f"{path} has no {MANIFEST}: it was not written to its end, or by another library.")
    try:
        told = read_json(path / MANIFEST)["files"]
        for name, entry in told.items():
            file = path / name
            if not _inside(name):
                raise UnsafeFile(f"{path / MANIFEST} names {name!r}, which is no file of its folder.")
            if not file.is_file() or file.stat().st_size != entry["size"]:
                raise CheckpointBroken(f"{file} is missing or has another size than when it was written.")
            if _hash(file) != entry["sha256"]:
                raise CheckpointBroken(f"{file} has been changed or damaged: its hash is not the one in {MANIFEST}.")
    except (AttributeError, KeyError, TypeError, ValueError, MultiheadError) as error:
        if isinstance(error, (CheckpointBroken, UnsafeFile)):
            raise
        raise CheckpointBroken(f"{path / MANIFEST} is no manifest: {error}.") from error
    if added := [name for name in _entries(path) if name not in told]:
        more = f" and {len(added) - 3} more" if len(added) > 3 else ""
        raise UnsafeFile(
            f"{path} holds {', '.join(added[:3])}{more}, which came there after the checkpoint was written: {MANIFEST} "
            "does not name it. Move it out of the folder, then go on."
        )


def admit(path: Path) -> None:
    """Adds to a checkpoint's manifest what callbacks put beside it when it was saved."""
    if not (path / MANIFEST).is_file():  # a callback moved it
        return
    told = read_json(path / MANIFEST)
    added = [path / name for name in _entries(path) if name not in told["files"] and (path / name).is_file()]
    if not added:
        return
    told["files"] |= {p.relative_to(path).as_posix(): {"size": p.stat().st_size, "sha256": _hash(p)} for p in added}
    fresh = path / f"{MANIFEST}.tmp"
    write_json(fresh, told)
    for file in (*added, fresh):
        _sync(file)
    fresh.replace(path / MANIFEST)
    _sync(path)


def _inside(name: str) -> bool:
    """Whether a name of a manifest stays in the folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    return not parts.is_absolute() and ".." not in parts.parts and ":" not in name and "\0" not in name


def _entries(folder: Path) -> Iterator[str]:
    """All that lies below a checkpoint and must be named: links too, but no folders."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not UNNAMED.fullmatch(name):
            yield name


def _seal(folder: Path) -> None:
    """Writes the manifest and makes everything durable."""
    files = {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": _hash(p)} for p in _files(folder)}
    write_json(folder / MANIFEST, {"format": 1, "files": files})
    for path in [*_files(folder), *(p for p in folder.rglob("*") if p.is_dir()), folder]:
        _sync(path)


def _replace(temporary: Path, final: Path) -> None:
    """Renames a folder; one that is there already goes only when the new one stands."""
    if final.exists() and not exchange(temporary, final):
        final.rename(temporary.with_name(OLD))  # a kill from here on leaves a whole one for `recover`
    if not final.exists():
        temporary.rename(final)
    _sync(final.parent)


def _recovered(left: Path, final: Path) -> None:
    """Gives the newest whole checkpoint of a folder that `staged` left its place, where that is free."""
    for path in (left / INNER, left / OLD):
        if not final.exists() and path.is_dir():
            with suppress(CheckpointBroken, UnsafeFile):
                check(path)
                path.rename(final)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _by_parts(file)


def _by_parts(file: Any) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
