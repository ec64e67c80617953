"""Events of loading and unloading, for everybody who watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

MAX_QUEUE = 1000  # events that a slow watcher may fall behind
SHARE_SECONDS = 0.2  # between two events of one stage of a load


class LoadEvents:
    """Tells watchers what happens to models: {"model", "status", "time", …}.

    Status: loading (with "stage" and "percent" of it once that is known), loaded, failed, unloading, unloaded.
    """

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def tell(self, model: str, status: str, **more: Any) -> None:
        """Tell all watchers; called in the event loop."""
        event = {"model": model, "status": status, "time": round(time.time(), 3), **more}
        for queue in self._watchers:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(event)

    def close(self) -> None:
        """End all watches."""
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def watch(self, interval: float) -> AsyncIterator[dict[str, Any] | None]:
        """Yield events from now on, and None after each `interval` seconds without one."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(MAX_QUEUE)
        self._watchers.add(queue)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), interval)
                except asyncio.TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._watchers.discard(queue)


class LoadShares:
    """Percents of a load as events: at most some a second, which a thread tells the event loop that makes this."""

    def __init__(self, events: LoadEvents, model: str) -> None:
        self._events, self._model, self._loop = events, model, asyncio.get_running_loop()
        self._told, self._time = ("", -1), 0.0

    def tell(self, stage: str, share: float) -> None:
        """Tell the finished share (0 to 1) of a stage."""
        told, now = (stage, int(100 * share)), time.monotonic()
        if told == self._told or (now - self._time < SHARE_SECONDS and share < 1):
            return
        self._told, self._time = told, now
        with suppress(RuntimeError):  # the server has ended meanwhile
            self._loop.call_soon_threadsafe(self._tell, *told)

    def _tell(self, stage: str, percent: int) -> None:
        self._events.tell(self._model, "loading", stage=stage, percent=percent)
