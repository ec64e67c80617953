"""Checkpoint folders of a run: written under a temporary name, synced to disk, then renamed atomically.

A folder `checkpoint-STEP` holds the model as `save_pretrained` writes it, the state of the run, and a manifest of all
files with their sizes and hashes. A folder without a matching manifest is no checkpoint. A run does not resume from a
folder with a file that the manifest does not name.
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
from ...files import INNER, check_folder, exchange_paths, lock_abandoned, remove_leftovers, staging_path

MANIFEST = "checkpoint.json"
RUN_FILE = "run.json"
PREFIX, OLD = "checkpoint-", "old"
# The manifest (also partly written) and files of file managers and file systems, which the manifest does not name.
IGNORED_FILES = re.compile(
    r"\.?checkpoint\.json(\.tmp)?(\.\w+\.tmp)?(/(lock|new(\.\w+)?))?|"
    r"(.*/)?(\.DS_Store|\._[^/]+|Thumbs\.db|desktop\.ini|\.directory|\.nfs[0-9a-f]+)"
)


class Checkpoints:
    """Checkpoints of one run in its output folder, which may hold checkpoints of other runs too.

    Args:
        limit: number of checkpoints to keep, always including the newest and the best; None for all.

    Attributes:
        run_id: id of the run, stored in `run.json` of its checkpoints; None before the run begins.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder, self.limit = folder, limit
        self.run_id: str | None = None

    def path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step}"

    def of_this_run(self) -> list[Path]:
        """Return the checkpoints of this run in the order of steps, valid or not."""
        return [path for path in self.all() if self.run_id is not None and read_run_id(path) == self.run_id]

    def all(self) -> list[Path]:
        """Return the checkpoints of all runs in the order of steps, valid or not."""
        if not self.folder.is_dir():
            return []
        steps = [(int(m[1]), p) for p in self.folder.iterdir() if (m := re.fullmatch(rf"{PREFIX}(\d+)", p.name))]
        return [path for _, path in sorted(steps)]

    def save(self, step: int, write: Callable[[Path], None], best: Path | None = None) -> Path:
        """Write a checkpoint, then delete the oldest checkpoints of this run beyond the limit.

        Args:
            write: writes the files into a folder. best: a checkpoint that is never deleted.

        Raises:
            CheckpointNotWritten: the disk is full, or the folder cannot be written; earlier checkpoints are intact.
        """
        final = self.path(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.recover()
            with staging_path(self.folder, final.name) as temporary:
                temporary.mkdir()
                write(temporary)
                _write_manifest(temporary)
                _replace(temporary, final)
        except (OSError, MultiheadError) as error:
            raise self._not_written(step, error) from error
        self._prune(final, best)
        return final

    def sequence(self) -> int:
        """Return the highest sequence number of the checkpoints of all runs in the folder."""
        return max(map(_sequence, self.all()), default=0)

    def newest(self) -> Path | None:
        """Return the last valid checkpoint of the run that wrote last.

        A broken checkpoint is skipped with a warning that names the fault. Raises UnsafeFile for an added file.
        """
        if self.folder.is_dir() and os.access(self.folder, os.W_OK):
            self.recover()
        return newest_valid(_by_runs(self.all()))

    def recover(self) -> None:
        """Move valid checkpoints that a killed process left under a temporary name to their final name.

        Existing checkpoints are not replaced. Other temporary folders are deleted, except those that a process is still
        writing, here or in another container.
        """
        for path in sorted(self.folder.glob(f".{PREFIX}*.tmp")):
            name = re.fullmatch(rf"\.({PREFIX}\d+)\..*", path.name)
            with suppress(OSError), lock_abandoned(path) as free:
                if free and name is not None:
                    _recover_folder(path, self.folder / name[1])
        remove_leftovers(self.folder, f".{PREFIX}*.tmp")

    def check_writable(self, size: int) -> None:
        """Raise CheckpointNotWritten if a checkpoint of at least `size` bytes cannot be written."""
        try:
            check_folder(self.folder)
            free = shutil.disk_usage(self.folder).free
        except (OSError, MultiheadError) as error:
            raise CheckpointNotWritten(f"No checkpoint could be written: {error} Choose another output_dir.") from error
        if free < size:
            raise CheckpointNotWritten(
                f"No checkpoint could be written: {self.folder} has {free / 1e6:,.0f} MB left, and the trained weights "
                f"take at least {size / 1e6:,.0f} MB. Make room, or choose another output_dir."
            )

    def _prune(self, *protected: Path | None) -> None:
        """Delete the oldest checkpoints of this run beyond the limit, but never the `protected` ones."""
        if self.limit is None:
            return
        names = {path.name for path in protected if path is not None and path.exists()}
        others = [path for path in self.of_this_run() if path.name not in names]
        for path in others[: max(len(others) + len(names) - self.limit, 0)]:
            shutil.rmtree(path, ignore_errors=True)

    def _not_written(self, step: int, error: Exception) -> CheckpointNotWritten:
        cause = error.__cause__ if isinstance(error, MultiheadError) and error.__cause__ else error
        full = (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)) or "No space left" in str(
            error
        )
        why = "the disk is full" if full else str(error).rstrip(".")
        last = next(reversed(self.of_this_run()), None)
        previous = f"The last good checkpoint is {last}" if last else "There is no earlier checkpoint"
        advice = "Make room" if full else "Mend it"
        return CheckpointNotWritten(
            f"The checkpoint of step {step} could not be written to {self.folder}: {why}. {previous}. {advice}, then "
            "resume with resume_from_checkpoint=True."
        )


def read_run_id(path: Path) -> str | None:
    """Return the id of the run that wrote a checkpoint; None if unknown."""
    try:
        run_id = read_json(path / RUN_FILE).get("run")
    except MultiheadError:
        return None
    return run_id if isinstance(run_id, str) else None


def newest_valid(paths: Sequence[Path]) -> Path | None:
    """Return the last valid checkpoint; a broken one is skipped with a warning.

    Raises:
        UnsafeFile: a file was added to a checkpoint.
    """
    for path in reversed(paths):
        try:
            verify(path)
        except CheckpointBroken as error:
            warn(f"{error} It is skipped.")
            continue
        return path
    return None


def _by_runs(paths: Sequence[Path]) -> list[Path]:
    """Order checkpoints by run, the run that wrote last at the end, and by step within a run."""
    runs: dict[str | None, list[Path]] = {}
    for path in paths:
        runs.setdefault(read_run_id(path), []).append(path)
    return [path for run in sorted(runs.values(), key=_last_write) for path in run]


def _last_write(paths: Sequence[Path]) -> tuple[int, int]:
    """Return the sort key of a run: its highest sequence number, and its last time of writing."""
    return max(map(_sequence, paths), default=0), _write_time(paths)


def _sequence(path: Path) -> int:
    """Return the sequence number of a checkpoint among all that were written into its folder; 0 if unknown."""
    try:
        number = read_json(path / RUN_FILE).get("sequence") if (path / MANIFEST).is_file() else None
    except MultiheadError:
        return 0
    return number if isinstance(number, int) else 0


def _write_time(paths: Sequence[Path]) -> int:
    """Return the time of the newest manifest, in nanoseconds; 0 without any."""
    return max((p.stat().st_mtime_ns for path in paths if (p := path / MANIFEST).is_file()), default=0)


def verify(path: Path) -> None:
    """Raise CheckpointBroken unless every file matches the manifest, UnsafeFile for a file that it does not name."""
    if not (path / MANIFEST).is_file():
        raise CheckpointBroken(f"{path} has no {MANIFEST}: it was not completely written, or another library wrote it.")
    try:
        files = read_json(path / MANIFEST)["files"]
        for name, entry in files.items():
            file = path / name
            if not _is_inside(name):
                raise UnsafeFile(f"{path / MANIFEST} names {name!r}, which is no file of its folder.")
            if not file.is_file() or file.stat().st_size != entry["size"]:
                raise CheckpointBroken(f"{file} is missing, or its size differs from the size in {MANIFEST}.")
            if _hash(file) != entry["sha256"]:
                raise CheckpointBroken(f"{file} was changed or damaged: its hash differs from the hash in {MANIFEST}.")
    except (AttributeError, KeyError, TypeError, ValueError, MultiheadError) as error:
        if isinstance(error, (CheckpointBroken, UnsafeFile)):
            raise
        raise CheckpointBroken(f"{path / MANIFEST} is no manifest: {error}.") from error
    if added := [name for name in _entries(path) if name not in files]:
        more = f" and {len(added) - 3} more" if len(added) > 3 else ""
        raise UnsafeFile(
            f"{path} holds {', '.join(added[:3])}{more}, which {MANIFEST} does not name: added after "
            "the checkpoint was written. Move it out of the folder, then resume."
        )


def add_to_manifest(path: Path) -> None:
    """Add files that callbacks wrote into a checkpoint to its manifest."""
    if not (path / MANIFEST).is_file():  # a callback moved it
        return
    manifest = read_json(path / MANIFEST)
    added = [path / name for name in _entries(path) if name not in manifest["files"] and (path / name).is_file()]
    if not added:
        return
    manifest["files"] |= {p.relative_to(path).as_posix(): {"size": p.stat().st_size, "sha256": _hash(p)} for p in added}
    temporary = path / f"{MANIFEST}.tmp"
    write_json(temporary, manifest)
    for file in (*added, temporary):
        _sync(file)
    temporary.replace(path / MANIFEST)
    _sync(path)


def _is_inside(name: str) -> bool:
    """Return whether a path of a manifest stays in the folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    return not parts.is_absolute() and ".." not in parts.parts and ":" not in name and "\0" not in name


def _entries(folder: Path) -> Iterator[str]:
    """Yield all files and links below a checkpoint that the manifest must name."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not IGNORED_FILES.fullmatch(name):
            yield name


def _write_manifest(folder: Path) -> None:
    """Write the manifest and sync all files to disk."""
    files = {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": _hash(p)} for p in _files(folder)}
    write_json(folder / MANIFEST, {"format": 1, "files": files})
    for path in [*_files(folder), *(p for p in folder.rglob("*") if p.is_dir()), folder]:
        _sync(path)


def _replace(temporary: Path, final: Path) -> None:
    """Rename a folder; an existing folder is deleted only after the new one is in its place."""
    if final.exists() and not exchange_paths(temporary, final):
        final.rename(temporary.with_name(OLD))  # if killed after this line, `recover` restores the folder
    if not final.exists():
        temporary.rename(final)
    _sync(final.parent)


def _recover_folder(staging: Path, final: Path) -> None:
    """Move the newest valid checkpoint of a staging folder to its final name, if that is free."""
    for path in (staging / INNER, staging / OLD):
        if not final.exists() and path.is_dir():
            with suppress(CheckpointBroken, UnsafeFile):
                verify(path)
                path.rename(final)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash_blocks(file)
        )


def _hash_blocks(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
