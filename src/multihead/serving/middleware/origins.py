"""Host and Origin checks: a web page elsewhere must not use a server on this machine through the visitor's browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ApiError
from ..routing import error_response
from ..state import ServerState

METHODS = "GET, POST, DELETE, OPTIONS"
MAX_AGE = "600"  # seconds for which a browser keeps the answer to a preflight


class Origins:
    """Refuses host names that are not this server's (DNS rebinding) and pages of other sites (cross-site requests).

    Addresses and `localhost` are always hosts of the server: rebinding needs a name. Names are checked where no key
    protects the server, and where `allowed_hosts` has any.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        settings = state.settings
        self.app = app
        self.hosts = {"localhost", settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        self.any_host = "*" in self.hosts or (
            not settings.allowed_hosts and (bool(state.keys) or settings.uds is not None)
        )
        self.origins = {origin.rstrip("/").lower() for origin in settings.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if len(hosts) > 1 or not self.takes_host(hosts[0] if hosts else ""):
            error = ApiError(
                "This host name is not this server's. Start it with --allowed-hosts to add the name.", 403,
                code="host_not_allowed",
            )  # fmt: skip
            await error_response(scope, error)(scope, receive, send)
            return
        if origin is None or same_origin(origin, hosts[0] if hosts else ""):
            await self.app(scope, receive, send)
            return
        if not self.takes_origin(origin):
            error = ApiError(
                "Pages of other sites may not call this server. Start it with --allowed-origins to let one.", 403,
                code="origin_not_allowed",
            )  # fmt: skip
            await error_response(scope, error)(scope, receive, send)
            return
        await self._answer(origin, scope, receive, send)

    async def _answer(self, origin: str, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["access-control-allow-origin"] = origin
                headers["access-control-expose-headers"] = "x-request-id, retry-after"
                headers.add_vary_header("Origin")
            await send(message)

        asked = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            allow = {"access-control-allow-methods": METHODS, "access-control-max-age": MAX_AGE}
            if wanted := asked.get("access-control-request-headers"):
                allow["access-control-allow-headers"] = wanted
            await Response(status_code=204, headers=allow)(scope, receive, send_with_cors)
            return
        await self.app(scope, receive, send_with_cors)

    def takes_host(self, value: str) -> bool:
        """Return True if a Host header names this server."""
        if self.any_host:
            return True
        name = host_name(value)
        return is_address(name) or matches(name, self.hosts)

    def takes_origin(self, origin: str) -> bool:
        """Return True if pages of another origin may call the server."""
        return "*" in self.origins or origin.lower() in self.origins


def host_name(value: str) -> str:
    """Return the name of a Host header without its port."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    name, colon, port = value.rpartition(":")
    return name if colon and port.isdecimal() else value


def is_address(name: str) -> bool:
    """Return True for an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return True if a name is one of the patterns, of which some are `*.DOMAIN`."""
    return any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in patterns)


def same_origin(origin: str, host: str) -> bool:
    """Return True if an origin is the host that was asked; a proxy may have changed the scheme."""
    try:
        parts = urlsplit(origin.lower())
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    default = {"http": 80, "https": 443}[parts.scheme]
    own = host.strip().lower()
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return own in ((name, f"{name}:{default}") if port in (None, default) else (f"{name}:{port}",))
