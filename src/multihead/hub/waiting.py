"""Locks between processes, with a message while waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import warn

SILENT = 2.0  # seconds that pass without a word


@contextmanager
def process_lock(lock: Path, other: str) -> Iterator[None]:
    """Admit only one process at a time; a waiting process prints a message.

    Args:
        other: what the other process does, for the message.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=SILENT)
    except Timeout:
        warn(f"Another process {other}; waiting for it ({lock}).")
        held.acquire()
    try:
        yield
    finally:
        held.release()
