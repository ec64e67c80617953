"""Loading and unloading of models, for admins; events of it, for everybody."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..body import Body, read_body
from ..errors import ApiError
from ..request_info import require_admin
from ..routing import route
from ..sse import KEEP_ALIVE, EventStream, event
from ..state import ServerState, state_of

DAY = 86400.0


class ModelBody(Body):
    """Body of /admin/models/load and /admin/models/unload."""

    model: str


async def load(request: Request) -> Response:
    state = admin_state(request)
    body = await read_body(request, ModelBody)
    model = await state.models.load(body.model)
    return JSONResponse({"model": model.id, "status": "loaded", "bytes": model.weight_bytes})


async def unload(request: Request) -> Response:
    state = admin_state(request)
    body = await read_body(request, ModelBody)
    name = state.models.resolve(body.model).id
    was_loaded = await state.models.unload(name)
    return JSONResponse({"model": name, "status": "unloaded", "was_loaded": was_loaded})


async def reload(request: Request) -> Response:
    model = await admin_state(request).models.reload(request.path_params["name"])
    return JSONResponse({"model": model.id, "status": "loaded", "bytes": model.weight_bytes})


async def list_models(request: Request) -> Response:
    models = admin_state(request).models
    found = [
        {
            "model": name, "source": settings.source, "aliases": list(settings.aliases),
            "status": "loaded" if name in models.loaded else "loading" if name in models.loading else "unloaded",
            **loaded_fields(models.loaded.get(name)),
            "error": str(models.failed[name].error) if name in models.failed else None,
        }
        for name, settings in models.known.items()
    ]  # fmt: skip
    return JSONResponse({"models": found, "bytes": models.bytes, "limit": models.settings.model_memory})


def loaded_fields(model: Any) -> dict[str, Any]:
    if model is None:
        return {}
    return {"bytes": model.weight_bytes, "users": model.users, "precision": model.pipe.precision}


async def events(request: Request) -> Response:
    """Return a stream: first the state of each model, then each change."""
    state = state_of(request)
    return EventStream(stream(state), lambda error: event({"error": str(error)}), keep_alive=None, timeout=DAY)


async def stream(state: ServerState) -> AsyncGenerator[bytes, None]:
    models = state.models
    for name in models.known:
        status = "loaded" if name in models.loaded else "loading" if name in models.loading else "unloaded"
        yield event({"model": name, "status": status})
    async for change in models.events.watch(state.settings.keep_alive_interval):
        yield KEEP_ALIVE if change is None else event(change)


def admin_state(request: Request) -> ServerState:
    """Return the state of the server. Raises ApiError unless an admin asks."""
    state = state_of(request)
    if not state.keys.has_admin:
        raise ApiError("Admin paths are off: no API key has the role admin.", 403, code="admin_off")
    require_admin(request)
    return state


ROUTES = [
    route("/admin/models", list_models, ("GET",)),
    route("/admin/models/events", events, ("GET",)),
    route("/v1/models/events", events, ("GET",)),
    route("/admin/models/load", load, bodies=[ModelBody]),
    route("/admin/models/unload", unload, bodies=[ModelBody]),
    route("/admin/models/{name:path}/reload", reload),
]
