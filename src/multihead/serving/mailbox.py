"""Calls from other threads into an event loop, all that wait in one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Calls that an event loop makes soon. One wake-up serves all that wait: each costs a write to a socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._woken = loop, False
        self._calls: deque[Callable[[], object]] = deque()

    def put(self, call: Callable[[], object]) -> None:
        """Leave a call, in any thread; it is made after the next `wake`. Raises RuntimeError for a closed loop."""
        if self._loop.is_closed():
            raise RuntimeError("The event loop is closed.")
        self._calls.append(call)

    def wake(self) -> None:
        """Let the loop make the calls that wait; without effect where it has closed."""
        if self._calls and not self._woken and not self._loop.is_closed():
            self._woken = True
            self._loop.call_soon_threadsafe(self._make_calls)

    def _make_calls(self) -> None:
        self._woken = False  # before the calls: what is left from here on wakes again
        while self._calls:
            self._calls.popleft()()
