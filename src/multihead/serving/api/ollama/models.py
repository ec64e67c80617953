"""/api/tags, /api/show, /api/ps and /api/version."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...._version import __version__
from ....pipelines.generation_base import context_length
from ...body import Body, read_body
from ...errors import ApiError
from ...generation.prompts import Template, template_text
from ...models.served_model import ServedModel
from ...routing import route
from ...settings import ModelSettings
from ...state import ServerState, state_of
from .errors import ollama_error

FAR = 2**33  # seconds since 1970, of a model that is never unloaded


class ShowBody(Body):
    """Body of /api/show, with the empty fields that `ollama run` and `ollama show` send.

    Args:
        name: the older name of `model`. verbose: more tables, of which this server has none.
    """

    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {"system": ("",), "template": ("",), "options": ({},)}

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None

    @property
    def asked(self) -> str:
        """The name of the model without Ollama's tag. Raises ApiError for none."""
        if not (found := self.model or self.name):
            raise ApiError("model: Field required.", param="model")
        return found.removesuffix(":latest")


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(min(seconds, FAR), timezone.utc).isoformat().replace("+00:00", "Z")


def parameters(model: ServedModel) -> int:
    return sum(parameter.numel() for parameter in model.model.parameters())


def details(model: ServedModel | None) -> dict[str, Any]:
    """Return what is known of a model's kind; only a loaded one is known."""
    if model is None:
        return {
            "parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "",
            "quantization_level": "",
        }  # fmt: skip
    family, count = str(model.config.model_type), parameters(model)
    size = f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"
    kind = "gguf" if model.settings.source.partition("#")[0].endswith(".gguf") else "safetensors"
    return {
        "parent_model": "", "format": kind, "family": family, "families": [family], "parameter_size": size,
        "quantization_level": str(model.pipe.precision),
    }  # fmt: skip


def entry(settings: ModelSettings, state: ServerState) -> dict[str, Any]:
    """Return a model in a list. The digest is that of its source's name."""
    model = state.models.loaded.get(settings.id)
    return {
        "name": settings.id, "model": settings.id, "size": 0 if model is None else model.weight_bytes,
        "modified_at": timestamp(state.started if model is None else model.created),
        "digest": hashlib.sha256(settings.source.encode()).hexdigest(), "details": details(model),
    }  # fmt: skip


async def tags(request: Request) -> Response:
    state = state_of(request)
    return JSONResponse({"models": [entry(settings, state) for settings in state.models.known.values()]})


async def processes(request: Request) -> Response:
    state = state_of(request)
    found = []
    for model in list(state.models.loaded.values()):
        keep = state.settings.idle_timeout if model.keep is None else model.keep
        left = math.inf if keep is None else model.last_used + keep - time.monotonic()
        on_gpu = model.pipe.device.type != "cpu"
        found.append({
            **entry(model.settings, state), "expires_at": timestamp(time.time() + left),
            "size_vram": model.weight_bytes if on_gpu else 0, "context_length": context_length(model.config) or 0,
        })  # fmt: skip
    return JSONResponse({"models": found})


async def show(request: Request) -> Response:
    body = await read_body(request, ShowBody)
    model = await state_of(request).models.get(body.asked)
    config = model.config
    template = template_text(model, Template())
    family = str(config.model_type)
    sizes: Mapping[str, Any] = {
        "context_length": context_length(config), "embedding_length": getattr(config, "hidden_size", None),
        "block_count": getattr(config, "num_hidden_layers", None),
        "attention.head_count": getattr(config, "num_attention_heads", None),
    }  # fmt: skip
    info = {f"{family}.{name}": value for name, value in sizes.items() if value is not None}
    return JSONResponse({
        "modelfile": f"FROM {model.id}", "parameters": "", "template": template, "details": details(model),
        "model_info": {"general.architecture": family, "general.parameter_count": parameters(model), **info},
        "capabilities": capabilities(model, template), "modified_at": timestamp(model.created),
    })  # fmt: skip


def capabilities(model: ServedModel, template: str) -> list[str]:
    """Return what a model can do, in Ollama's words."""
    found = ["completion"] if model.generates else ["embedding"]
    if model.generates and "tools" in template:
        found.append("tools")
    if model.generates and ("enable_thinking" in template or "<think>" in template):
        found.append("thinking")
    return found


async def version(request: Request) -> Response:
    return JSONResponse({"version": __version__})


ROUTES = [
    route("/api/tags", tags, ("GET",), ollama_error), route("/api/ps", processes, ("GET",), ollama_error),
    route("/api/show", show, shape=ollama_error, bodies=[ShowBody]),
    route("/api/version", version, ("GET",), ollama_error),
]  # fmt: skip
