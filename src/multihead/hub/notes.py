"""What a folder of unpacked wheel data says of itself: which wheel it came from, and the hash of each file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorruptFile

NOTE = ".wheel.json"
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # of file managers; nothing reads these


@dataclass(frozen=True)
class Note:
    """Where data came from.

    Args:
        wheel: the wheel's file name. sha256: its hash.
        files: path inside the folder -> its size in bytes, its last change in nanoseconds, its sha256.
    """

    wheel: str
    sha256: str
    files: Mapping[str, tuple[int, int, str]]


def read(folder: Path) -> Note | None:
    """The note of a folder; None where there is none, or one that says too little."""
    try:
        told = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        listed = told["files"] if "files" in told else recorded(folder)
        files = {str(name): (int(size), int(time), str(sha)) for name, (size, time, sha) in listed.items()}
        return Note(str(told["wheel"]), str(told["sha256"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def recorded(folder: Path) -> dict[str, tuple[int, int, str]]:
    """The files of a folder whose note, of an older version, lists none: what the wheel's RECORD says of them.

    Raises:
        ValueError: there is no such list, or one of other hashes.
    """
    from .unpack import UNLISTED, decoded, is_data, rows

    found = [path for path in folder.glob("*.dist-info/RECORD") if path.is_file()]
    if len(found) != 1:
        raise ValueError(f"{folder} has no RECORD")
    listed = {}
    for name, told in rows(found[0].read_bytes()).items():
        algorithm, _, value = told.partition("=")
        if UNLISTED.fullmatch(name):
            value, algorithm = hash_of(folder / name), "sha256"
        elif is_data(name):
            value = decoded(value).hex()
        else:
            continue
        if algorithm != "sha256":
            raise ValueError(f"{name} has a hash of another kind")
        path = folder / name
        listed[name] = (path.stat().st_size if path.is_file() else 0, -1, value)
    return listed


def write(folder: Path, wheel: str, sha256: str, files: Mapping[str, tuple[int, int, str]] | None = None) -> None:
    """Notes what a folder holds, as it is now."""
    if files is None:
        files = {name: (*_now(folder / name), hash_of(folder / name)) for name in present(folder)}
    text = json.dumps({"wheel": wheel, "sha256": sha256, "files": {name: list(told) for name, told in files.items()}})
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.note")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(folder / NOTE)


def check(folder: Path, note: Note, below: str = "", *, whole: bool = False) -> None:
    """Compares the files below a path with a note: those that changed since by their hash, or all of them.

    Raises:
        CorruptFile: a file is missing, was added, or has another content than in the wheel.
    """
    inside = {name for name in note.files if name == below or not below or name.startswith(f"{below}/")}
    found = set(present(folder, below))
    advice = f"Delete {folder} to fetch the wheel again."
    if strange := sorted(found ^ inside):
        what = "is missing" if strange[0] in inside else f"is not of the wheel {note.wheel}"
        raise CorruptFile(f"{folder / strange[0]} {what}. {advice}")
    moved = {}
    for name in sorted(inside):
        size, time, sha256 = note.files[name]
        now = _now(folder / name)
        if now == (size, time) and not whole:
            continue
        if now[0] != size or hash_of(folder / name) != sha256:
            raise CorruptFile(f"{folder / name} is not what the wheel {note.wheel} holds. {advice}")
        moved[name] = (*now, sha256)
    if any(note.files[name] != told for name, told in moved.items()):  # copied here: the next look is as fast again
        with suppress(OSError):
            write(folder, note.wheel, note.sha256, {**note.files, **moved})


def present(folder: Path, below: str = "") -> Iterator[str]:
    """The files below a path of a folder, relative to the folder, with slashes."""
    start = folder / below
    if start.is_file():
        yield below
    for root, _, names in os.walk(start):
        for name in names:
            path = (Path(root) / name).relative_to(folder).as_posix()
            if path != NOTE and name not in LITTER:
                yield path


def hash_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _now(path: Path) -> tuple[int, int]:
    """Size and last change of a file. Raises OSError."""
    told = path.stat()
    return told.st_size, told.st_mtime_ns
