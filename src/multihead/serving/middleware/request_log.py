"""Request ids, one line of the log a request, headers of every response, and the error of last resort."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import INTERNAL, ApiError
from ..request_info import SCOPE, RequestInfo, _current
from ..routing import error_response, route_path
from ..state import ServerState

log = logging.getLogger("multihead.serving")
access = logging.getLogger("multihead.access")
ID = re.compile(rb"[\w.:-]{1,128}")
QUIET = ("/health", "/ready", "/ping", "/metrics")  # asked every few seconds; logged at the level DEBUG
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class RequestLog:
    """Outermost middleware.

    Takes an `x-request-id` of letters, digits and `.:_-`, or makes one, and sends it back. Keeps the models of the
    request loaded until its answer is sent.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        info = RequestInfo(id=request_id(scope))
        scope[SCOPE] = info
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = info.id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        token = _current.set(info)
        self.state.running.add(info)
        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            # routes answer their own errors: this one is of middleware, or came while the answer was sent
            log.error("request %s failed", info.id, exc_info=error)
            if not status:
                await error_response(scope, ApiError(INTERNAL, 500))(scope, receive, send_with_headers)
        finally:
            self.state.running.discard(info)
            info.release()
            _current.reset(token)
            self._write(scope, info, status)

    def _write(self, scope: Scope, info: RequestInfo, status: int) -> None:
        path = route_path(scope)
        route = getattr(scope.get("endpoint"), "path", "")
        if self.state.metrics is not None:
            self.state.metrics.request_ended(info, route, scope["method"], status)
        if self.state.tracing is not None:
            self.state.tracing.request_ended(info, route, status, Headers(scope=scope))
        level = logging.DEBUG if path in QUIET and status < 500 else logging.INFO
        if access.isEnabledFor(level):
            access.log(level, "request", extra={"fields": access_fields(scope, path, info, status)})


def access_fields(scope: Scope, path: str, info: RequestInfo, status: int) -> dict[str, Any]:
    """Return what the log says of a request: neither its texts nor its key. Status 0: nothing was sent."""
    client = scope.get("client")
    fields = {
        "id": info.id, "client": client[0] if client else None, "method": scope["method"], "path": path[:200],
        "status": status, "seconds": round(time.monotonic() - info.begin, 4),
        "key": None if info.key is None else info.key.name, "model": info.model,
        "finish_reason": info.finish_reason, "error": info.error,
        "prompt_tokens": info.prompt_tokens, "cached_tokens": info.cached_tokens,
        "generation_tokens": info.generation_tokens,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value or name == "status"}


def request_id(scope: Scope) -> str:
    """Return the id that a client gives, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and ID.fullmatch(value):
            return str(value.decode())
    return uuid.uuid4().hex
