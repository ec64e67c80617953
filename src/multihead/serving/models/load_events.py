"""Events of loading and unloading, for everybody who watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

MAX_QUEUE = 1000  # events that a slow watcher may fall behind


class LoadEvents:
    """Tells watchers what happens to models: {"model", "status", "time", …}.

    Status: loading, loaded, failed, unloading, unloaded.
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
