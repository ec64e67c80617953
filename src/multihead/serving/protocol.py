"""Limits of a connection, below ASGI: headers that never end or come too slowly, clients that read nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import ServerSettings


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection with limits. `limited_protocol` sets them."""

    settings: ServerSettings = ServerSettings()
    head_timer: asyncio.TimerHandle | None = None
    write_timer: asyncio.TimerHandle | None = None
    in_head, head_bytes = True, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.settings.max_connections:
            transport.close()
        else:
            self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.in_head:
            if self.head_timer is None and not self.transport.is_closing():
                self._begin_head()
            self.head_bytes += len(data)
            # a packet may have the begin of the body too, which is then counted once
            if self.head_bytes > self.settings.max_headers and b"\r\n\r\n" not in data[: self.settings.max_headers]:
                self._refuse(b"431 Request Header Fields Too Large", b"The headers of the request are too long.")
                return
        super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # trailers of a chunked body are not kept
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.in_head, self.head_bytes = False, 0
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.in_head = True

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.settings.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None
        super().resume_writing()

    def _begin_head(self) -> None:
        self.head_timer = self.loop.call_later(self.settings.header_timeout, self._head_timeout)

    def _head_timeout(self) -> None:
        self._refuse(b"408 Request Timeout", b"The headers of the request did not arrive in time.")

    def _refuse(self, status: bytes, text: bytes) -> None:
        self._stop_timers()
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(head % (status, len(text)) + text)
            self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self.head_timer, self.write_timer):
            if timer is not None:
                timer.cancel()
        self.head_timer = self.write_timer = None


def limited_protocol(settings: ServerSettings) -> type[asyncio.Protocol]:
    """Return the protocol class with the limits of a server."""
    names: dict[str, Any] = {"settings": settings}
    return type("ServerProtocol", (LimitedProtocol,), names)
