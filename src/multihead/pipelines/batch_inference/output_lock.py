"""Lock of an output that one command writes at a time."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from ...errors import InvalidInput


class OutputLock:
    """Lock beside an output (`.NAME.lock`).

    Raises:
        InvalidInput: another command holds it.
    """

    def __init__(self, output: Path) -> None:
        self._lock = FileLock(output.with_name(f".{output.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InvalidInput(
                f"Another command is writing {output}. Wait for it, or choose another output."
            ) from error

    def release(self) -> None:
        """Remove the lock."""
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
