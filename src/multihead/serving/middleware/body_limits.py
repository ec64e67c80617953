"""Limits of a request's body: its size, before it is read, and the time in which it arrives."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ApiError
from ..routing import error_response
from ..state import ServerState

CLOSE = {"Connection": "close"}  # what follows on this connection is the rest of a body that nobody reads


class BodyLimits:
    """Refuses bodies that are too long (413), too slow (408) or compressed (415), also those that tell no length."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app, self.size, self.seconds = app, state.settings.max_body, state.settings.body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        error = self._refusal(headers)
        if error is not None:
            await error_response(scope, error)(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _refusal(self, headers: Headers) -> ApiError | None:
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            # a few bytes can unpack to more than the memory
            return ApiError("Compressed bodies are not read. Send the body as it is.", 415, headers=CLOSE)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            return ApiError("Content-Length is no number.", 400, headers=CLOSE)
        return self._too_large() if len(length) > 18 or int(length) > self.size else None

    def _too_large(self) -> ApiError:
        return ApiError(
            f"The body of a request has at most {self.size} bytes here.", 413, code="request_too_large", headers=CLOSE
        )

    def _limited(self, receive: Receive) -> Receive:
        loop = asyncio.get_running_loop()
        deadline, length, more = 0.0, 0, True

        async def limited() -> Message:
            nonlocal deadline, length, more
            if not more:
                return await receive()  # waits for the disconnect
            deadline = deadline or loop.time() + self.seconds
            try:
                message = await asyncio.wait_for(receive(), deadline - loop.time())
            except asyncio.TimeoutError:
                raise ApiError("The body of the request did not arrive in time.", 408, headers=CLOSE) from None
            length += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if length > self.size:
                raise self._too_large()
            return message

        return limited
