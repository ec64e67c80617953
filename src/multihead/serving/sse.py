"""Streams of events: server-sent events and lines of JSON, ended as soon as the client goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .disconnects import disconnected, end
from .errors import ApiError, to_api_error

log = logging.getLogger("multihead.serving")
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
LINES = "application/x-ndjson"


def event(data: Any, name: str = "") -> bytes:
    """Return a server-sent event with JSON data."""
    head = b"event: %s\n" % name.encode() if name else b""
    return b"%sdata: %s\n\n" % (head, to_json(data))


def line(data: Any) -> bytes:
    """Return JSON as a line of its own."""
    return to_json(data) + b"\n"


class EventStream(Response):
    """Response of text that grows.

    Args:
        chunks: what is sent. on_error: makes the last chunk of a stream that fails.
        keep_alive: seconds of silence after which a comment is sent; None for never. timeout: seconds of the whole.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        on_error: Callable[[ApiError], bytes],
        *,
        keep_alive: float | None,
        timeout: float,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-cache", **(headers or {})}, media_type)
        del self.headers["content-length"]
        self.chunks, self.on_error, self.keep_alive, self.timeout = chunks, on_error, keep_alive, timeout
        self.begun, self.last_sent = False, time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.ensure_future(self._send_all(send)), asyncio.ensure_future(disconnected(receive))]
        silence = asyncio.ensure_future(self._fill_silence(send))
        try:
            # with a limit, since a client that reads nothing would hold the connection for ever
            await asyncio.wait(tasks, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            await end(*tasks, silence)
            await self.chunks.aclose()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self.begun = True
        try:
            async for chunk in self.chunks:
                await self._send(send, chunk)
        except Exception as error:
            found = to_api_error(error)
            if found.status >= 500:
                log.error("A stream failed", exc_info=error)
            await self._send(send, self.on_error(found))
        self.begun = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fill_silence(self, send: Send) -> None:
        """Send a comment whenever nothing was sent for a while, so that no proxy takes the connection for dead."""
        while self.keep_alive:
            left = self.last_sent + self.keep_alive - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            elif self.begun:
                await self._send(send, KEEP_ALIVE)

    async def _send(self, send: Send, chunk: bytes) -> None:
        self.last_sent = time.monotonic()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
