"""No new requests while the server ends."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ApiError
from ..routing import error_response, route_path
from ..state import ServerState

WATCHED = frozenset({"/health", "/ready", "/ping", "/metrics", "/v2/health/live", "/v2/health/ready"})


class Drain:
    """Refuses requests with 503 after the first SIGTERM, so that clients go elsewhere."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.state.draining and route_path(scope) not in WATCHED:
            error = ApiError(
                "The server is shutting down; send the request again.", 503, code="shutting_down",
                headers={"Retry-After": "1", "Connection": "close"},
            )  # fmt: skip
            await error_response(scope, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)
