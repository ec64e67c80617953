"""/health says that the process lives, /ready that it takes requests."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..._version import __version__
from ..routing import route
from ..state import state_of


async def health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    state = state_of(request)
    is_ready = state.ready and not state.draining
    text = "ready" if is_ready else "draining" if state.draining else "loading"
    return JSONResponse({"status": text}, 200 if is_ready else 503, {} if is_ready else {"Retry-After": "5"})


async def version(request: Request) -> Response:
    return JSONResponse({"version": __version__})


ROUTES = [route("/health", health, ("GET",)), route("/ready", ready, ("GET",)), route("/version", version, ("GET",))]
