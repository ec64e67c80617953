"""Signals that end a process are noted, so that a run can save before it goes."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn


class Signals:
    """Notes SIGTERM and SIGINT while it is entered; a second one ends the process at once, as without it.

    `number` is the signal's, or None.

    Args:
        at_once: the first one ends the process too. Python may lose what a signal raises, in a finalizer or a callback
            of another library: `check` raises it again.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.number: int | None = None
        self.at_once = at_once
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        known, self.number = self.number, number
        if self.at_once or known is not None:
            self.leave(number)

    def check(self) -> None:
        """Raises what a signal that was noted means; nothing where none was."""
        if self.number is not None:
            self.leave(self.number)

    @staticmethod
    def leave(number: int) -> NoReturn:
        """Raises what the signal means: KeyboardInterrupt, or SystemExit with 128 + number."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
