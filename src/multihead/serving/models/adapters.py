"""LoRA adapters that admins load while the server runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import MultiheadError
from ...hub.local import looks_like_path
from ..errors import ApiError
from .registry import ModelRegistry

log = logging.getLogger("multihead.serving")


async def load_adapter(models: ModelRegistry, base: str | None, name: str, source: str) -> None:
    """Load an adapter into a model and make it a model name. Raises ApiError."""
    settings = models.resolve(base)
    check_source(source, models.settings.adapter_sources)
    async with models.adapter_lock:
        if name in models.names:
            raise ApiError(f"The name {name!r:.200} is taken.", 400, param="lora_name", code="name_taken")
        model = await models.get(settings.id)
        if model.model.prepared is not None:
            raise ApiError(
                f"{settings.id} computes with prepared weights ({model.pipe.precision}), which take no adapters; "
                "serve it with another precision, such as float32.",
                400, param="base_model_name", code="adapter_not_loaded",
            )  # fmt: skip
        try:
            await asyncio.to_thread(model.engine.load_adapter, name, source)
        except MultiheadError as error:
            if isinstance(error, ApiError):
                raise
            log.error("the adapter %s cannot be loaded: %s", name, error)
            raise ApiError(
                f"The adapter {name!r:.200} cannot be loaded into {settings.id}; the server's log says why.", 400,
                param="lora_path", code="adapter_not_loaded",
            ) from error  # fmt: skip
        # a model that is loaded again has the adapter too
        settings = models.known[settings.id]
        models.known[settings.id] = replace(settings, adapters={**settings.adapters, name: source})
        newer = models.loaded.get(settings.id)
        if newer is not None and newer is not model:  # it was loaded again meanwhile
            await models.attach_adapters(newer)
    log.info("the adapter %s of %s is loaded", name, settings.id)


async def unload_adapter(models: ModelRegistry, name: str) -> None:
    """Remove an adapter; requests that use it end with an error. Raises ApiError."""
    async with models.adapter_lock:
        settings = next((each for each in models.known.values() if name in each.adapters), None)
        if settings is None:
            raise ApiError(f"There is no adapter {name!r:.200} here.", 404, param="lora_name", code="adapter_not_found")
        left = {each: source for each, source in settings.adapters.items() if each != name}
        models.known[settings.id] = replace(settings, adapters=left)
        model = models.loaded.get(settings.id)
        if model is not None:
            await models.attach_adapters(model)
    log.info("the adapter %s of %s is unloaded", name, settings.id)


def check_source(source: str, allowed: Sequence[str]) -> None:
    """Raise ApiError unless an adapter is in one of the folders, or of one of the hub's owners (OWNER/)."""
    is_path = looks_like_path(source) or Path(source).exists()
    for each in allowed:
        owner = each.endswith("/") and each.count("/") == 1 and not looks_like_path(each)
        if owner and not is_path and source.startswith(each) and source.count("/") == 1:
            return
        # links are followed, so that none leads out of the folder
        if not owner and is_path and Path(source).resolve().is_relative_to(Path(each).expanduser().resolve()):
            return
    raise ApiError(
        "This source is not among those of --adapter-sources, which name the folders and owners (OWNER/) that "
        "adapters may come from.", 403, param="lora_path", code="source_not_allowed",
    )  # fmt: skip
