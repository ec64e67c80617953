"""Progress of a load, told to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, float], object]
READING, PREPARING = "reading", "preparing"  # weights are read, then packed for the processor

_listener: ContextVar[Listener | None] = ContextVar("load_progress", default=None)


@contextmanager
def watch_load(listener: Listener) -> Iterator[None]:
    """Call a function with the stage and its finished share (0 to 1) of each load inside, in its thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class LoadRelay:
    """Listener that calls another one, which may come while the load runs. Attributes: listener: None for none."""

    listener: Listener | None = None

    def __call__(self, stage: str, share: float) -> None:
        if self.listener is not None:
            self.listener(stage, share)


class LoadSteps:
    """Steps of a stage. Args: total: of their sizes."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total, self.done = stage, total, 0
        self._listener = _listener.get()

    def finish(self, size: int = 1) -> None:
        """Tell that a step is done."""
        self.done += size
        if self._listener is not None:
            self._listener(self.stage, self.done / max(self.total, 1))
