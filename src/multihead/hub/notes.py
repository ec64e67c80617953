"""Record of a folder of unpacked wheel data: its wheel, and the hash of each file."""

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
    """Origin of unpacked data.

    Args:
        wheel: the wheel's file name. sha256: its hash.
        files: path inside the folder -> its size in bytes, its last change in nanoseconds, its sha256.
    """

    wheel: str
    sha256: str
    files: Mapping[str, tuple[int, int, str]]


def read(folder: Path) -> Note | None:
    """Read the record of a folder; None where it is missing or incomplete."""
    try:
        record = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        listed = record["files"] if "files" in record else files_of_record(folder)
        files = {str(name): (int(size), int(time), str(sha)) for name, (size, time, sha) in listed.items()}
        return Note(str(record["wheel"]), str(record["sha256"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def files_of_record(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Return the files of a folder with an older record without files, from the wheel's RECORD.

    Raises:
        ValueError: there is no such list, or one of other hashes.
    """
    from .unpack import UNLISTED, decode_hash, is_data, parse_record

    found = [path for path in folder.glob("*.dist-info/RECORD") if path.is_file()]
    if len(found) != 1:
        raise ValueError(f"{folder} has no RECORD")
    listed = {}
    for name, digest in parse_record(found[0].read_bytes()).items():
        algorithm, _, value = digest.partition("=")
        if UNLISTED.fullmatch(name):
            value, algorithm = hash_of(folder / name), "sha256"
        elif is_data(name):
            value = decode_hash(value).hex()
        else:
            continue
        if algorithm != "sha256":
            raise ValueError(f"{name} has a hash of another kind")
        path = folder / name
        listed[name] = (path.stat().st_size if path.is_file() else 0, -1, value)
    return listed


def write(folder: Path, wheel: str, sha256: str, files: Mapping[str, tuple[int, int, str]] | None = None) -> None:
    """Record the files of a folder as they are now."""
    if files is None:
        files = {name: (*_now(folder / name), hash_of(folder / name)) for name in list_files(folder)}
    text = json.dumps({"wheel": wheel, "sha256": sha256, "files": {name: list(state) for name, state in files.items()}})
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.note")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(folder / NOTE)


def check(folder: Path, note: Note, below: str = "", *, whole: bool = False) -> None:
    """Compare the files below a path with the record: files that changed since, or all of them.

    Raises:
        CorruptFile: a file is missing, was added, or has another content than in the wheel.
    """
    inside = {name for name in note.files if name == below or not below or name.startswith(f"{below}/")}
    found = set(list_files(folder, below))
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
    if any(note.files[name] != state for name, state in moved.items()):  # copied here: the next look is as fast again
        with suppress(OSError):
            write(folder, note.wheel, note.sha256, {**note.files, **moved})


def list_files(folder: Path, below: str = "") -> Iterator[str]:
    """List the files below a path, relative to the folder, with slashes."""
    start = folder / below
    if start.is_file():
        yield below
    for root, _, names in os.walk(start):
        for name in names:
            path = (Path(root) / name).relative_to(folder).as_posix()
            if path != NOTE and name not in LITTER:
                yield path


def hash_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _now(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
