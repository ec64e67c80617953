"""End of calls that generate for somebody who has gone: another thread abandons them, and they end within a step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import MultiheadError


class Abandoned(MultiheadError):
    """Nobody waits for the result of this call any more."""


class Abandonment:
    """Signal by which another thread ends what a thread generates.

    A thread works in `with abandonment.watch():`. Calls of `generate` and of pipelines in this block raise `Abandoned`
    once another thread has called `abandon`, if the model has an engine in a thread of its own.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._abandoned = False
        self._wakes: list[Callable[[], object]] = []

    def abandon(self) -> None:
        """End the calls. Calls that begin later end at once."""
        with self._mutex:
            self._abandoned = True
            for wake in self._wakes:
                wake()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Let the calls of this thread end when they are abandoned."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call `wake` when the work is abandoned, also if it was so before."""
        with self._mutex:
            self._wakes.append(wake)
            if self._abandoned:
                wake()
        try:
            yield
        finally:
            with self._mutex:
                self._wakes.remove(wake)


_current: ContextVar[Abandonment | None] = ContextVar("multihead_abandonment", default=None)


@contextmanager
def waking(wake: Callable[[], object]) -> Iterator[None]:
    """Call `wake` when the work of this thread is abandoned; never without an `Abandonment`."""
    abandonment = _current.get()
    if abandonment is None:
        yield
        return
    with abandonment.waking(wake):
        yield


def end_call() -> None:
    """Raise Abandoned."""
    raise Abandoned("Nobody waits for this text any more.")
