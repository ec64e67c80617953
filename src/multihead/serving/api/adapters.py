"""/v1/load_lora_adapter and /v1/unload_lora_adapter (vLLM), for admins."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..body import Body, read_body
from ..models.adapters import load_adapter, unload_adapter
from ..routing import route
from .admin import admin_state


class LoadAdapterBody(Body):
    """Body of /v1/load_lora_adapter. `base_model_name`: default: the first model of the server."""

    NEUTRAL: ClassVar = {"load_inplace": (False,), "is_3d_lora_weight": (False,)}
    lora_name: str = Field(min_length=1, max_length=200)
    lora_path: str = Field(min_length=1, max_length=4096)
    base_model_name: str | None = None


class UnloadAdapterBody(Body):
    """Body of /v1/unload_lora_adapter."""

    NOT_COMPUTED: ClassVar = {"lora_int_id": "adapters have names here."}
    lora_name: str


async def load(request: Request) -> Response:
    """Load a LoRA adapter as a model name."""
    state = admin_state(request)
    body = await read_body(request, LoadAdapterBody)
    await load_adapter(state.models, body.base_model_name, body.lora_name, body.lora_path)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


async def unload(request: Request) -> Response:
    """Unload a LoRA adapter."""
    state = admin_state(request)
    body = await read_body(request, UnloadAdapterBody)
    await unload_adapter(state.models, body.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


ROUTES = [
    route("/v1/load_lora_adapter", load, bodies=[LoadAdapterBody]),
    route("/v1/unload_lora_adapter", unload, bodies=[UnloadAdapterBody]),
]
