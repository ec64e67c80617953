"""Files that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .errors import AccessDenied, InvalidInput, ModelNotFound, MultiheadError

LOCK, INNER = "lock", "new"


@contextmanager
def staged(folder: Path, name: str) -> Iterator[Path]:
    """A path in a hidden folder of `folder`, for a file or folder that is written there and then renamed.

    The hidden folder goes when the block ends. While it is written it is locked, so that others know those that killed
    processes left, on whatever machine or in whatever container these ran: they are removed here.

    Args:
        name: of what is written; only leftovers of the same name are removed.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    clear(folder, f".{name}.*.tmp")
    with ExitStack() as held:
        while True:
            outer = folder / f".{name}.{uuid4().hex[:12]}.tmp"
            outer.mkdir()
            held.callback(shutil.rmtree, outer, ignore_errors=True)
            with suppress(Timeout, FileNotFoundError):  # another process may take it for a leftover until it is locked
                held.enter_context(FileLock(outer / LOCK, timeout=0))
                if (outer / LOCK).exists():
                    break
        yield outer / INNER


def clear(folder: Path, pattern: str) -> None:
    """Removes the hidden folders of `staged` that nobody writes any more, and files that an earlier version left."""
    from filelock import FileLock, Timeout

    for path in folder.glob(pattern):
        with suppress(OSError, Timeout):
            if path.is_dir() and not path.is_symlink():
                with FileLock(path / LOCK, timeout=0):
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another path, whose file takes the name of `path` when the block ends well.

    A link that is there is replaced, not followed.
    """
    with staged(path.parent, path.name) as new:
        yield new
        new.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, whole or not at all; halves of characters become the escapes of JSON and Python."""
    with replacing(path) as new:
        new.write_bytes(text.encode("utf-8", "backslashreplace"))


def same(path: Path | int, other: Path | int) -> bool:
    """Whether two paths, or numbers of open files, are of one file: links, other cases, /dev/stdin."""
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except (OSError, ValueError):
        return False


def check_target(path: Path, option: str, sources: Iterable[Path | int | None] = ()) -> None:
    """Raises InvalidInput for a path that a command must not write.

    Args:
        option: that names it, for the message. sources: what the command reads: paths, numbers of open files.
    """
    if path.is_symlink():
        raise InvalidInput(f"{option} {path} is a symbolic link to {os.readlink(path)}. Name the file itself.")
    if any(source is not None and same(path, source) for source in sources):
        raise InvalidInput(f"{option} {path} is what this command reads; writing it would destroy it. Name another.")
    if path.is_dir():
        raise InvalidInput(f"{option} {path} is a folder; name a file.")
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{option} {path} is no regular file.")
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent} to write {path.name} in. Make it first.")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Raises InvalidInput for a folder in which nothing can be written: rights, a full or read-only disk."""
    try:
        with staged(folder, "probe") as probe:
            probe.write_bytes(bytes(4096))
    except OSError as error:
        raise InvalidInput(
            f"{folder} cannot be written: {error.strerror or error}. Check its rights and the disk."
        ) from error


def refused(path: Path, error: OSError) -> MultiheadError:
    """The error for a file that cannot be opened: it is not there, or it is and must not be read."""
    if isinstance(error, FileNotFoundError):
        return ModelNotFound(f"{path} does not exist.")
    return AccessDenied(
        f"{path} is there but cannot be read: {error.strerror or error}. Check its rights and the disk."
    )
