"""Verification of file content by the hub's hashes: git blob hashes, or sha256 for large files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from ..errors import CorruptFile

SHA1, SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


def published_hash(sibling: Any) -> str | None:
    """Return the hash that a listing gives for a file, or None."""
    lfs = getattr(sibling, "lfs", None)
    found = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    found = found or (getattr(sibling, "blob_id", None) if lfs is None else None)
    return found if isinstance(found, str) and is_hash(found) else None


def is_hash(value: str) -> bool:
    """Return True if a name is a hash that content can be compared with."""
    return SHA1.fullmatch(value) is not None or SHA256.fullmatch(value) is not None


def file_hashes(path: Path, like: str) -> list[str]:
    """Hash a file in the kind of another hash: sha256, git blob, or the plain sha1 that mirrors give.

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


def cached_hash(path: Path) -> str | None:
    """Return the hash in the name of a cached file's blob; None without blobs or with another name."""
    name = path.resolve().name if path.is_symlink() else ""
    return name if is_hash(name) else None


def check(storage: Path, path: Path, listed: str | None) -> None:
    """Compare a file that was just fetched with the hub's hash, and delete it if they differ.

    Raises:
        CorruptFile: it has another content.
    """
    wanted = listed or cached_hash(path)
    if wanted is None or wanted in (found := file_hashes(path, wanted)):
        return
    blob = path.resolve()
    path.unlink()
    if blob != path and blob.is_relative_to(storage.resolve()):
        blob.unlink(missing_ok=True)
    raise CorruptFile(
        f"{path.name} came with the hash {found[0]}, and the hub has {wanted}: it was damaged on the way, or "
        "changed on the way, for example by a proxy. It was not kept; try again."
    )


def damaged_files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the cached files that differ from the hub's, and those without a hash."""
    wrong, unknown = [], []
    for path in sorted((folder / "snapshots").rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(folder / "snapshots").as_posix()
        wanted = cached_hash(path)
        if not path.is_file():
            wrong.append(f"{name} (its content is gone)")
        elif wanted is None:
            unknown.append(name)
        elif wanted not in file_hashes(path, wanted):
            wrong.append(name)
    return wrong, unknown
