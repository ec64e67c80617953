"""Whether a file has the content that the hub has: git's hash of it, or sha256 for large files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from ..errors import CorruptFile

SHA1, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


def expected(sibling: Any) -> str | None:
    """The hash that a listing gives for a file; None where it gives none."""
    lfs = getattr(sibling, "lfs", None)
    found = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    found = found or (getattr(sibling, "blob_id", None) if lfs is None else None)
    return found if isinstance(found, str) and known(found) else None


def known(told: str) -> bool:
    """Whether a name is a hash that content can be compared with."""
    return SHA1.fullmatch(told) is not None or SHA256.fullmatch(told) is not None


def hashes(path: Path, like: str) -> list[str]:
    """A file's hashes of the kind of another: sha256; or git's of a blob, and plain sha1, which mirrors give instead.

    Git's is the sha1 of "blob SIZE", a zero byte and the data.
    """
    plain = hashlib.sha1(usedforsecurity=False)
    digests = [hashlib.sha256()] if SHA256.fullmatch(like) else [plain.copy(), plain]
    if len(digests) > 1:
        digests[0].update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for digest in digests:
                digest.update(block)
    return [digest.hexdigest() for digest in digests]


def told(path: Path) -> str | None:
    """The hash of a cached file, which its blob is named by; None where the cache has no blobs, or another name."""
    name = path.resolve().name if path.is_symlink() else ""
    return name if known(name) else None


def check(storage: Path, path: Path, listed: str | None) -> None:
    """Compares a file of a snapshot that was just fetched with the hash that the hub gave; one that differs goes.

    Raises:
        CorruptFile: it has another content.
    """
    wanted = listed or told(path)
    if wanted is None or wanted in (found := hashes(path, wanted)):
        return
    blob = path.resolve()
    path.unlink()
    if blob != path and blob.is_relative_to(storage.resolve()):
        blob.unlink(missing_ok=True)
    raise CorruptFile(
        f"{path.name} came with the hash {found[0]}, and the hub has {wanted}: it was damaged on the way, or "
        "changed by what lies between. It was not kept; try again."
    )


def damaged(folder: Path) -> tuple[list[str], list[str]]:
    """The files of a repository in the cache that are not what the hub gave, and those of which it told no hash."""
    wrong, unknown = [], []
    for path in sorted((folder / "snapshots").rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(folder / "snapshots").as_posix()
        wanted = told(path)
        if not path.is_file():
            wrong.append(f"{name} (its content is gone)")
        elif wanted is None:
            unknown.append(name)
        elif wanted not in hashes(path, wanted):
            wrong.append(name)
    return wrong, unknown
