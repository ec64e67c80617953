"""/v1/models (OpenAI)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...hub.local import looks_like_path
from ..routing import route
from ..settings import ModelSettings
from ..state import ServerState, state_of


def describe(model: ModelSettings, state: ServerState) -> dict[str, Any]:
    """Return a model in OpenAI's shape, with vLLM's `root` and `max_model_len`."""
    loaded = state.models.loaded.get(model.id)
    out: dict[str, Any] = {
        "id": model.id, "object": "model", "created": int(state.started), "owned_by": "multihead",
        "root": public_source(model.source),
        "aliases": list(model.aliases), "status": "loaded" if loaded is not None else "unloaded",
    }  # fmt: skip
    if loaded is not None:
        out |= {
            "task": loaded.task,
            "precision": loaded.pipe.precision,
            "max_model_len": getattr(loaded.pipe, "context_length", None),
        }
    return out


def describe_adapter(name: str, model: ModelSettings, state: ServerState) -> dict[str, Any]:
    """Return an adapter as vLLM does: a model whose parent is its base."""
    return {**describe(model, state), "id": name, "root": public_source(model.adapters[name]), "parent": model.id,
            "aliases": []}  # fmt: skip


def public_source(source: str) -> str:
    """Return the source of a model for everybody, without its hash: of a local folder only its name."""
    source = source.partition("#sha256=")[0]
    if source.startswith("pypi:"):
        return source
    return Path(source).name if looks_like_path(source) or Path(source).exists() else source


async def list_models(request: Request) -> Response:
    state = state_of(request)
    found = []
    for model in state.models.known.values():
        found += [describe(model, state), *(describe_adapter(name, model, state) for name in model.adapters)]
    return JSONResponse({"object": "list", "data": found})


async def get_model(request: Request) -> Response:
    state, name = state_of(request), request.path_params["name"]
    model = state.models.resolve(name)
    found = describe_adapter(name, model, state) if name in model.adapters else describe(model, state)
    return JSONResponse(found)


ROUTES = [route("/v1/models", list_models, ("GET",)), route("/v1/models/{name:path}", get_model, ("GET",))]
