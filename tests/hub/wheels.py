"""Tiny wheels, sound and unsound, for a folder that pip finds them in."""

from __future__ import annotations

import base64
import hashlib
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path


def digest(data: bytes, algorithm: str = "sha256") -> str:
    """A hash as RECORD writes it."""
    value = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()
    return f"{algorithm}={value}"


def build(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "tiny_weights",
    version: str = "1.0",
    tag: str = "py3-none-any",
    record: Mapping[str, str | None] | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """Writes a wheel and returns its path.

    Args:
        record: rows of RECORD to change; None leaves one out.
        links: symbolic links, name to target.
    """
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/licenses/LICENSE": b"Free.",
    }
    rows: dict[str, str | None] = {path: digest(data) for path, data in files.items()}
    rows |= {path: digest(target.encode()) for path, target in (links or {}).items()}
    rows |= {f"{info}/RECORD": "", **(record or {})}
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        for path, target in (links or {}).items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
        text = "".join(f"{path},{value},\n" for path, value in rows.items() if value is not None)
        archive.writestr(f"{info}/RECORD", text)
    return wheel


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
