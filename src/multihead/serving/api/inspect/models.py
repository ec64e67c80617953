"""/inspect/models and /inspect/model/{id}: facts on models; /inspect/machine: facts on the machine."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....errors import MultiheadError
from ....machine_facts import facts
from ....modeling.parameter_counts import bytes_by_part
from ....nn.inner_model import inner_model
from ....pipelines.catalog import canonical_name
from ...models.served_model import ServedModel
from ...models.tasks import main_task
from ...routing import route
from ...settings import ModelSettings
from ...state import ServerState, state_of
from ..models import public_source

HIDDEN = ("id2label", "label2id", "task_specific_params")  # of a config: long, and said elsewhere
MAX_LABELS = 200


def listed(settings: ModelSettings, state: ServerState) -> dict[str, Any]:
    """Return what is known of a model without loading it."""
    model = state.models.loaded.get(settings.id)
    out: dict[str, Any] = {
        "id": settings.id, "aliases": list(settings.aliases),
        "source": public_source(settings.source),
        "status": "loaded" if model else "failed" if settings.id in state.models.failed else "unloaded",
    }  # fmt: skip
    if model is None:
        task = local_task(settings.source) if settings.task is None else canonical_name(settings.task)
        return {**out, "task": task, "tasks": [task] if task else None}
    return {
        **out, "task": model.task, "tasks": model.tasks(), "precision": model.pipe.precision,
        "generates": model.generates, "chat": bool(getattr(model.tokenizer, "chat_template", None)),
        "mask": getattr(model.tokenizer, "mask_token", None), "context": context_length(model), "labels": labels(model),
        "encoder_decoder": bool(model.config.is_encoder_decoder),
    }  # fmt: skip


@lru_cache(maxsize=256)
def local_task(source: str) -> str | None:
    """Return the task of a checkpoint on this disk; None where its files would have to be fetched first."""
    if not Path(source).exists():
        return None
    try:
        return canonical_name(main_task(source))
    except MultiheadError:
        return None


def context_length(model: ServedModel) -> int | None:
    """Return the largest number of tokens of a text; None if there is no limit."""
    length = getattr(model.pipe, "context_length", None) or getattr(model.pipe, "limit", None)
    return None if length is None or length >= 10**9 else int(length)


def labels(model: ServedModel) -> list[str]:
    """Return the names of a classifier's labels, the first ones."""
    names = (model.config.id2label or {}) if "classification" in model.task else {}
    return [str(name) for name in list(names.values())[:MAX_LABELS]]


def described(model: ServedModel) -> dict[str, Any]:
    """Return what `multihead inspect` knows of a loaded model."""
    inner = inner_model(model.model)
    config = {key: value for key, value in inner.config.to_dict().items() if key not in HIDDEN}
    tokenizer = model.tokenizer
    limit = tokenizer.model_max_length
    return {
        "family": inner.config.model_type, "class": type(inner).__name__, "device": str(inner.device),
        "parameters": inner.num_parameters(), "bytes": dict(bytes_by_part(inner).most_common()),
        "adapters": [str(name) for name in inner.adapter_sources], "config": config,
        "tokenizer": {
            "kind": type(tokenizer.backend.model).__name__, "tokens": len(tokenizer),
            "longest": limit if limit < 10**9 else None, "padding_side": tokenizer.padding_side,
            "special": {k.removesuffix("_token"): str(v) for k, v in tokenizer.special.items() if v},
            "chat_template": getattr(tokenizer, "chat_template", None) is not None,
        },
    }  # fmt: skip


async def list_models(request: Request) -> Response:
    state = state_of(request)
    found = await asyncio.to_thread(lambda: [listed(each, state) for each in state.models.known.values()])
    return JSONResponse({"data": found})


async def describe_model(request: Request) -> Response:
    state = state_of(request)
    model = await state.models.get(request.path_params["name"])
    facts_of = await asyncio.to_thread(described, model)
    return JSONResponse({**listed(model.settings, state), **facts_of})


async def machine(request: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(facts))


ROUTES = [
    route("/inspect/models", list_models, ("GET",)),
    route("/inspect/model/{name:path}", describe_model, ("GET",)),
    route("/inspect/machine", machine, ("GET",)),
]
