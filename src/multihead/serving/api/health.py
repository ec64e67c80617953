"""Health: the process lives (/health), it takes requests (/ready); the same for SageMaker and KServe."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..._version import __version__
from ..routing import route
from ..state import state_of

RETRY = {"Retry-After": "5"}


async def health(request: Request) -> Response:
    """Return 503 only for what a restart of the process mends: a forward pass that does not end."""
    stalled = state_of(request).condition == "stalled"
    return JSONResponse({"status": "stalled" if stalled else "ok"}, 503 if stalled else 200)


async def ready(request: Request) -> Response:
    condition = state_of(request).condition
    is_ready = condition == "ready"
    return JSONResponse({"status": condition}, 200 if is_ready else 503, {} if is_ready else RETRY)


async def version(request: Request) -> Response:
    return JSONResponse({"version": __version__})


async def live_v2(request: Request) -> Response:
    alive = state_of(request).condition != "stalled"
    return JSONResponse({"live": alive}, 200 if alive else 503)


async def ready_v2(request: Request) -> Response:
    is_ready = state_of(request).condition == "ready"
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503, {} if is_ready else RETRY)


async def model_ready_v2(request: Request) -> Response:
    state = state_of(request)
    settings = state.models.resolve(request.path_params["name"])
    # a model that is loaded when it is first asked takes requests now
    is_ready = state.condition == "ready" and settings.id not in state.models.failed
    return JSONResponse({"name": settings.id, "ready": is_ready}, 200 if is_ready else 503, {} if is_ready else RETRY)


ROUTES = [
    route("/health", health, ("GET",)),
    route("/ready", ready, ("GET",)),
    route("/ping", ready, ("GET",)),
    route("/version", version, ("GET",)),
    route("/v2/health/live", live_v2, ("GET",)),
    route("/v2/health/ready", ready_v2, ("GET",)),
    route("/v2/models/{name:path}/ready", model_ready_v2, ("GET",)),
]
