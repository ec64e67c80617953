"""Folder of fetched wheels, and errors for a folder that cannot be used."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CacheUnusable

UNUSABLE = frozenset(
    getattr(errno, name, None) for name in "EACCES EPERM EROFS ENOSPC EDQUOT ENOTDIR EISDIR EEXIST ENAMETOOLONG".split()
) - {None}


def wheel_root(cache_dir: Path | None) -> Path:
    """Return the folder of unpacked wheels: `pypi` in cache_dir, `$MULTIHEAD_CACHE` or `$XDG_CACHE_HOME/multihead`."""
    if cache_dir is None and os.environ.get("MULTIHEAD_CACHE"):
        cache_dir = Path(os.path.expandvars(os.environ["MULTIHEAD_CACHE"])).expanduser()
    if cache_dir is None:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = Path(os.path.expandvars(home)).expanduser() / "multihead"
    return cache_dir / "pypi"


def cache_unusable(error: OSError) -> CacheUnusable:
    """Build the error for a cache that cannot be written."""
    where = f" {error.filename}" if error.filename else ""
    return CacheUnusable(
        f"The cache{where} cannot be written: {error.strerror}. Make room or allow it, or choose another folder "
        "(cache_dir=, HF_HOME for the hub, MULTIHEAD_CACHE for wheels)."
    )


@contextmanager
def write_errors() -> Iterator[None]:
    """Turn write errors of the system into `CacheUnusable`."""
    try:
        yield
    except OSError as error:
        if error.errno in UNUSABLE and type(error).__module__ == "builtins":
            raise cache_unusable(error) from error
        raise
