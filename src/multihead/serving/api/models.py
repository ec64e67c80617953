"""/v1/models (OpenAI)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..routing import route
from ..settings import ModelSettings
from ..state import ServerState, state_of


def describe(model: ModelSettings, state: ServerState) -> dict[str, Any]:
    """Return a model in OpenAI's shape, with vLLM's `root` and `max_model_len`."""
    loaded = state.models.loaded.get(model.id)
    out: dict[str, Any] = {
        "id": model.id, "object": "model", "created": int(state.started), "owned_by": "multihead", "root": model.source,
        "aliases": list(model.aliases), "status": "loaded" if loaded is not None else "unloaded",
    }  # fmt: skip
    if loaded is not None:
        out |= {
            "task": loaded.task,
            "precision": loaded.pipe.precision,
            "max_model_len": getattr(loaded.pipe, "context_length", None),
        }
    return out


async def list_models(request: Request) -> Response:
    state = state_of(request)
    return JSONResponse({"object": "list", "data": [describe(m, state) for m in state.models.known.values()]})


async def get_model(request: Request) -> Response:
    state = state_of(request)
    return JSONResponse(describe(state.models.resolve(request.path_params["name"]), state))


ROUTES = [route("/v1/models", list_models, ("GET",)), route("/v1/models/{name:path}", get_model, ("GET",))]
