"""API keys, on every path but a fixed list of public ones."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ApiError
from ..request_info import info_in
from ..routing import error_response, route_path
from ..state import ServerState

# Exactly these, by GET or HEAD. They answer the same for everybody. Every other path, also one without a route,
# needs a key: a path that this list spells differently from the router is refused, not served.
PUBLIC = frozenset({"/", "/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready"})


class Auth:
    """Finds the key of a request: `Authorization: Bearer`, `x-api-key` or `api-key`."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app, self.keys = app, state.keys
        self.public = PUBLIC | ({"/metrics"} if state.settings.public_metrics else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.keys:
            await self.app(scope, receive, send)
            return
        secret = sent_key(Headers(scope=scope))
        info_in(scope).key = key = None if secret is None else self.keys.find(secret)
        if key is not None or (scope["method"] in ("GET", "HEAD") and route_path(scope) in self.public):
            await self.app(scope, receive, send)
            return
        if secret is None:
            text = 'An API key is needed: "Authorization: Bearer KEY", or "x-api-key: KEY".'
        else:
            text = "This API key is not known here."
        error = ApiError(text, 401, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        await error_response(scope, error)(scope, receive, send)


def sent_key(headers: Headers) -> str | None:
    """Return the key of a request's headers; None if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or headers.get("api-key") or None
