"""Pure ASGI middleware: what every request passes before its route, the outermost first."""

from __future__ import annotations

from starlette.middleware import Middleware

from ..state import ServerState
from .auth import Auth
from .body_limits import BodyLimits
from .drain import Drain
from .origins import Origins
from .request_log import RequestLog


def middleware(state: ServerState) -> list[Middleware]:
    """Return the middleware of a server, the outermost first."""
    return [Middleware(kind, state=state) for kind in (RequestLog, Origins, Auth, Drain, BodyLimits)]
