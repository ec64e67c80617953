"""Turns on a device: threads that run models take one each pass, so that they neither wait for ever nor compete."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class FairLock:
    """Reentrant lock that threads get in the order in which they asked for it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    @property
    def is_own(self) -> bool:
        """True in the thread that has the lock."""
        return self._owner == threading.get_ident()

    def acquire(self) -> None:
        own = threading.get_ident()
        with self._mutex:
            if self._owner in (None, own):
                self._owner, self._depth = own, self._depth + 1
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()  # released by the owner before, which has passed the lock on
        self._owner, self._depth = own, 1

    def release(self) -> None:
        with self._mutex:
            self._depth -= 1
            if self._depth:
                return
            # no thread may take the lock between the release and the next one's wake-up
            self._owner = -1 if self._waiting else None
            if self._waiting:
                self._waiting.popleft().release()


class Unshared:
    """Turn of a process whose threads take none."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


_turn: FairLock | Unshared = Unshared()


def take_turns() -> None:
    """Let all threads of this process run one pass at a time from now on; for servers. It stays so."""
    global _turn
    if not isinstance(_turn, FairLock):
        _turn = FairLock()


def turn() -> FairLock | Unshared:
    """Return a context that holds the device for one pass; without effect unless `take_turns` was called."""
    return _turn


def holds_turn() -> bool:
    """Return whether this thread holds the device, so that it must not wait for a pass of another thread."""
    return isinstance(_turn, FairLock) and _turn.is_own


def in_turn(method: F) -> F:
    """Decorate a method that runs one forward pass."""

    @wraps(method)
    def call(*values: Any, **named: Any) -> Any:
        with _turn:
            return method(*values, **named)

    return call  # type: ignore[return-value]
