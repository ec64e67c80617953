"""Handler of SIGTERM and SIGINT that lets a run save a checkpoint before it ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn


class Signals:
    """Context manager that records SIGTERM and SIGINT; a second signal ends the process at once.

    Attributes:
        number: number of the received signal, or None.

    Args:
        at_once: the first signal ends the process too. Python may lose an exception raised in a signal handler, in a
            finalizer or a callback of another library; `check` raises it again.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.number: int | None = None
        self.at_once = at_once
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # handlers can be set only in this thread
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        previous, self.number = self.number, number
        if self.at_once or previous is not None:
            self.leave(number)

    def check(self) -> None:
        """Raise the exception of a received signal; do nothing without a signal."""
        if self.number is not None:
            self.leave(self.number)

    @staticmethod
    def leave(number: int) -> NoReturn:
        """Raise KeyboardInterrupt for SIGINT, SystemExit with 128 + number for other signals."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
