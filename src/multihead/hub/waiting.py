"""Locks between processes, waited for with a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import warn

SILENT = 2.0  # seconds that pass without a word


@contextmanager
def alone(lock: Path, other: str) -> Iterator[None]:
    """Only one process at a time is inside; who waits says so.

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
