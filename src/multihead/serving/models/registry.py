"""Models of a server by their names: loaded when they are needed, unloaded when they are not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from ...errors import MultiheadError, nearest
from ..errors import ApiError
from ..settings import ModelSettings, ServerSettings
from .served_model import ServedModel

log = logging.getLogger("multihead.serving")


class ModelRegistry:
    """Names to loaded models."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.known: dict[str, ModelSettings] = {model.id: model for model in settings.models}
        self.loaded: dict[str, ServedModel] = {}
        self.failed: dict[str, str] = {}  # name -> why the last load failed
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def names(self) -> Mapping[str, str]:
        """Every name and alias of a model -> its id."""
        return {name: model.id for model in self.known.values() for name in (model.id, *model.aliases)}

    def resolve(self, name: str | None) -> ModelSettings:
        """Return the settings of the model that a request names; of the first one for None. Raises ApiError."""
        if name is None:
            return next(iter(self.known.values()))
        names = self.names
        if name not in names:
            raise ApiError(
                f"There is no model {name!r:.200} here. {nearest(name, names)} GET /v1/models lists all.",
                404, param="model", code="model_not_found",
            )  # fmt: skip
        return self.known[names[name]]

    async def get(self, name: str | None = None) -> ServedModel:
        """Return a model, loaded first if it must be. Raises ApiError."""
        settings = self.resolve(name)
        model = self.loaded.get(settings.id)
        if model is None:
            model = await self.load(settings.id)
        model.last_used = time.monotonic()
        return model

    async def load(self, name: str) -> ServedModel:
        """Load a model if it is not yet. Raises ApiError."""
        settings = self.resolve(name)
        async with self._locks.setdefault(settings.id, asyncio.Lock()):
            if settings.id in self.loaded:
                return self.loaded[settings.id]
            begin = time.monotonic()
            try:
                model = await asyncio.to_thread(ServedModel.load, settings, self.settings)
            except MultiheadError as error:
                log.error("%s cannot be loaded: %s", settings.id, error)
                self.failed[settings.id] = str(error)
                raise ApiError(
                    f"The model {settings.id} cannot be loaded; the server's log says why.", 503, param="model",
                    code="model_not_loaded",
                ) from error  # fmt: skip
            self.failed.pop(settings.id, None)
            self.loaded[settings.id] = model
            log.info("%s is loaded (%s, %.1f s)", settings.id, model.pipe.precision, time.monotonic() - begin)
            return model

    async def unload(self, name: str) -> None:
        """Unload a model; the next request loads it again."""
        model = self.loaded.pop(self.resolve(name).id, None)
        if model is not None:
            await asyncio.to_thread(model.close)

    async def close(self) -> None:
        for name in list(self.loaded):
            await self.unload(name)
