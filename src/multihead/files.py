"""Write files whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .errors import AccessDenied, CorruptFile, InvalidInput, ModelNotFound, MultiheadError

LOCK, INNER = "lock", "new"
STANDARD = "Name a file; where the command writes to standard output without one, send that on: > or |."
SMALL = 1 << 20  # bytes of files that are compared
HERE, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def staging_path(folder: Path, name: str) -> Iterator[Path]:
    """Yield a path in a hidden folder of `folder`, for a file or folder that is written there and then renamed.

    The hidden folder is removed when the block ends, and locked until then. A hidden folder without a lock was left by
    a process that was killed, on any machine or in any container: such folders are removed here.

    Args:
        name: of the file or folder; only leftovers of the same name are removed.
    """
    from filelock import FileLock, Timeout

    remove_leftovers(folder, f".{name}.*.tmp")
    with ExitStack() as stack:
        while True:
            outer = folder / f".{name}.{uuid4().hex[:12]}.tmp"
            outer.mkdir()
            stack.callback(shutil.rmtree, outer, ignore_errors=True)
            with suppress(Timeout, FileNotFoundError, FileExistsError):  # until it is locked others may take it away
                stack.enter_context(FileLock(outer / LOCK, timeout=0))
                if (outer / LOCK).exists():
                    break
        yield (outer / INNER).with_suffix(Path(name).suffix)  # by which some libraries know what to write


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove hidden folders of `staging_path` that no process writes, and temporary files of an earlier version."""
    for path in folder.glob(pattern):
        with suppress(OSError), lock_abandoned(path) as free:
            if free:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def lock_abandoned(path: Path) -> Iterator[bool]:
    """Yield True if no process writes a hidden folder of `staging_path`; none can begin to inside of the block."""
    from filelock import FileLock, Timeout

    if not path.is_dir() or path.is_symlink():
        yield False
        return
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, whose file is renamed to `path` when the block ends without an error.

    A link at `path` is replaced, not followed.
    """
    with staging_path(path.parent, path.name) as new:
        yield new
        new.replace(path)


@contextmanager
def rebuild_folder(folder: Path, last: str, gone: Callable[[str], bool]) -> Iterator[Path]:
    """Yield a temporary folder, whose files replace those of `folder` when the block ends without an error.

    A reader at the same time finds all old files, all new ones, or none named `last`.

    Args:
        last: the file without which readers ignore the others. gone: True for the name of an old file that is removed
            if it is not written again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with staging_path(folder, "saving") as stage:
        stage.mkdir()
        yield stage
        _move(stage, folder, last, gone)


def _move(stage: Path, folder: Path, last: str, gone: Callable[[str], bool]) -> None:
    names = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    names = [name for name in names if not _equal(stage / name, folder / name)]
    old = [path for path in folder.iterdir() if gone(path.name) and not (stage / path.name).exists()]
    end = stage / last
    if len(names) + len(old) > 1 and end.is_file():
        (folder / last).unlink(missing_ok=True)
        names = [name for name in names if name != Path(last)] + [Path(last)]
    for path in old:
        path.unlink()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)


def _equal(path: Path, other: Path) -> bool:
    """True if two small files have the same content; large ones count as different."""
    if not other.is_file() or other.is_symlink() or path.stat().st_size != other.stat().st_size:
        return False
    return path.stat().st_size <= SMALL and path.read_bytes() == other.read_bytes()


@contextmanager
def check_unchanged(path: Path, *, reads: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Raise CorruptFile if a file is replaced while the block runs, as `rebuild_folder` replaces `last`.

    Args:
        reads: returns True, after the block, if the block has read the file. A file that was read, but is missing
            before and after the block, came and went meanwhile: one save ended and the next one began.
    """
    before = _stamp(path)
    yield
    if _stamp(path) != before or (before is None and reads()):
        raise CorruptFile(f"{path.parent} was written while it was read. Load it again.")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def exchange_paths(path: Path, other: Path) -> bool:
    """Exchange the files or folders of two paths in one step. Return False if the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # of Linux
    except (AttributeError, TypeError, OSError):
        return False
    return bool(rename(HERE, os.fsencode(path.absolute()), HERE, os.fsencode(other.absolute()), EXCHANGE) == 0)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all. Lone surrogates become escapes, as in JSON and Python."""
    with replace_file(path) as new:
        new.write_bytes(text.encode("utf-8", "backslashreplace"))


def export_text(text: str, path: str | os.PathLike[str] | None) -> str:
    """Return a text, and write it to a file if one is named."""
    if path is not None:
        write_text(Path(path), text)
    return text


def same_file(path: Path | int, other: Path | int) -> bool:
    """True if two paths, or numbers of open files, are of one file: links, other letter cases, /dev/stdin."""
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except (OSError, ValueError):
        return False


def check_target(path: Path, option: str, sources: Iterable[Path | int | None] = ()) -> None:
    """Raise InvalidInput for a path that a command must not write.

    Args:
        option: its name on the command line, for the message. sources: files that the command reads: paths, numbers of
            open files.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidInput(f"{option} {path} is no regular file: a device, a pipe or a socket. {STANDARD}")
    if path.name == "-":
        raise InvalidInput(f"{option} - would write a file of that name. {STANDARD}")
    if path.is_symlink():
        raise InvalidInput(f"{option} {path} is a symbolic link to {os.readlink(path)}. Name the file itself.")
    if any(source is not None and same_file(path, source) for source in sources):
        raise InvalidInput(f"{option} {path} is what this command reads; writing it would destroy it. Name another.")
    if path.is_dir():
        raise InvalidInput(f"{option} {path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise InvalidInput(f"There is no folder {path.parent} to write {path.name} in. Make it first.")
    check_folder(path.parent)


def model_files(name: str) -> list[Path]:
    """Return the local files of a model of this name: the file itself, or all files in its folder."""
    path = Path(name)
    return [path] if path.is_file() else [one for one in path.iterdir() if one.is_file()] if path.is_dir() else []


def check_folder(folder: Path) -> None:
    """Raise InvalidInput for a folder in which nothing can be written: permissions, a full or read-only disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with staging_path(folder, "probe") as probe:
            probe.write_bytes(bytes(4096))
    except OSError as error:
        raise InvalidInput(
            f"{folder} cannot be written: {error.strerror or error}. Check its rights and the disk."
        ) from error


def open_error(path: Path, error: OSError) -> MultiheadError:
    """Return the error for a file that cannot be opened: it does not exist, or it must not be read."""
    if isinstance(error, FileNotFoundError):
        return ModelNotFound(f"{path} does not exist.")
    return AccessDenied(
        f"{path} is there but cannot be read: {error.strerror or error}. Check its rights and the disk."
    )
