"""Models of a server by their names: loaded when they are needed, unloaded when they are not."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import MultiheadError, nearest
from ...generation.engine_thread import EngineThread
from ...load_progress import watch_load
from ..errors import ApiError
from ..request_info import current_request
from ..settings import ModelSettings, ServerSettings
from ..start import EarlyLoad
from .load_events import LoadEvents, LoadShares
from .memory import file_bytes
from .served_model import ServedModel

log = logging.getLogger("multihead.serving")
FAILURE_SECONDS = 15.0  # for which a failed load is not tried again
ROOM_SECONDS = 60.0  # for which a load waits until requests let other models go
POLL_SECONDS = 0.1
UNNAMED = "dummy"  # what huggingface_hub sends where its user gave it no name but an address
TEND_SECONDS = 1.0  # between looks at idle models and engines


@dataclass(frozen=True)
class LoadFailure:
    """A load that failed. `until`: seconds of a monotonic clock."""

    error: BaseException
    until: float


class ModelRegistry:
    """Names to loaded models.

    Requests hold the models that they use (`RequestInfo.hold`); a model is closed only when nobody holds it.

    Attributes:
        known: settings by id. loaded: models by id. failed: loads that failed, by id. retired: models that were
            unloaded while requests still held them.
    """

    def __init__(self, settings: ServerSettings, begun: EarlyLoad | None = None) -> None:
        self.settings, self._begun = settings, begun
        self.known: dict[str, ModelSettings] = {model.id: model for model in settings.models}
        self.adapter_lock = asyncio.Lock()  # two admins must not give one name to two adapters
        self.loaded: dict[str, ServedModel] = {}
        self.failed: dict[str, LoadFailure] = {}
        self.retired: list[ServedModel] = []
        self._closing: list[ServedModel] = []  # their memory is not free yet
        self.events = LoadEvents()
        self.loads = 0  # since the start
        self._loads: dict[str, asyncio.Task[ServedModel]] = {}
        self._budget = asyncio.Lock()  # of `model_memory`: two loads must not count the same free bytes
        self.tasks: dict[str, str] = {}  # id -> the task of a model that is not loaded, with its languages, once known

    @property
    def names(self) -> Mapping[str, str]:
        """Every name, alias and adapter of a model -> its id."""
        return {name: model.id for model in self.known.values() for name in (model.id, *model.aliases, *model.adapters)}

    @property
    def loading(self) -> list[str]:
        """Ids of models that are being loaded."""
        return list(self._loads)

    @property
    def bytes(self) -> int:
        """Weights of all models in memory."""
        return sum(model.weight_bytes for model in (*self.loaded.values(), *self.retired, *self._closing))

    def resolve(self, name: str | None) -> ModelSettings:
        """Return the settings of the model that a request names; of the first one for None. Raises ApiError."""
        names = self.names
        if name is None or (name == UNNAMED and UNNAMED not in names):
            return next(iter(self.known.values()))
        if name not in names:
            raise ApiError(
                f"There is no model {name!r:.200} here. {nearest(name, names)} GET /v1/models lists all.",
                404, param="model", code="model_not_found",
            )  # fmt: skip
        return self.known[names[name]]

    async def get(self, name: str | None = None) -> ServedModel:
        """Return a model, loaded first if it must be; the current request holds it until its end. Raises ApiError."""
        settings = self.resolve(name)
        model = self.loaded.get(settings.id)
        while model is None or model is not self.loaded.get(settings.id):  # unloaded again before it could be held
            model = await self.load(settings.id)
        model.last_used = time.monotonic()
        request = current_request()
        if request is not None:
            if not request.model:  # a further one helps it, as the encoder that finds passages
                request.model = settings.id
                request.adapter = name if name in settings.adapters else None
            request.hold(model)
        return model

    async def load(self, name: str) -> ServedModel:
        """Load a model if it is not yet; all who ask meanwhile wait for the same load. Raises ApiError."""
        settings = self.resolve(name)
        if settings.id in self.loaded:
            return self.loaded[settings.id]
        task = self._loads.get(settings.id)
        if task is None:
            self._check_failure(settings)
            task = self._begin_load(settings)
        return await asyncio.shield(task)  # a client that goes does not end the load of the others

    def _begin_load(self, settings: ModelSettings) -> asyncio.Task[ServedModel]:
        task = asyncio.create_task(self._load(settings))
        self._loads[settings.id] = task
        task.add_done_callback(lambda done: self._loaded(settings.id, done))
        return task

    def _loaded(self, name: str, task: asyncio.Task[ServedModel]) -> None:
        self._loads.pop(name, None)
        if not task.cancelled():
            task.exception()  # it has been seen, also where every client has gone

    def _check_failure(self, settings: ModelSettings) -> None:
        failure = self.failed.get(settings.id)
        if failure is not None and time.monotonic() < failure.until:
            raise load_error(settings.id, failure.until - time.monotonic()) from failure.error

    async def _load(self, settings: ModelSettings) -> ServedModel:
        begun = self._begun if self._begun is not None and self._begun.model is settings else None
        begin = time.monotonic() if begun is None else begun.begin
        self.events.tell(settings.id, "loading")
        try:
            if begun is None:
                model = await self._build(settings)
            else:
                self._begun = None
                begun.progress.listener = LoadShares(self.events, settings.id).tell
                model = await asyncio.wrap_future(begun.future)
            await self.attach_adapters(model)
        except ApiError:
            self.events.tell(settings.id, "failed")
            raise
        except Exception as error:  # of a file of any kind: the server lives on
            log.error(
                "%s cannot be loaded: %s", settings.id, error, exc_info=not isinstance(error, MultiheadError)
            )  # fmt: skip
            self.failed[settings.id] = LoadFailure(error, time.monotonic() + FAILURE_SECONDS)
            self.events.tell(settings.id, "failed")
            raise load_error(settings.id, FAILURE_SECONDS) from error
        self.failed.pop(settings.id, None)
        before = self.loaded.get(settings.id)
        self.loaded[settings.id] = model
        if before is not None:
            await self._retire(before)
        self.loads += 1
        seconds = time.monotonic() - begin
        log.info("%s is loaded (%s, %.1f s)", settings.id, model.pipe.precision, seconds)
        self.events.tell(settings.id, "loaded", seconds=round(seconds, 3), bytes=model.weight_bytes)
        return model

    async def attach_adapters(self, model: ServedModel) -> None:
        """Give a model the adapters that admins have loaded, also those that they load and unload meanwhile.

        One that cannot be loaded any more is forgotten; its base lives on.
        """
        while (engine := model.running_engine) is not None:
            wanted = self.known[model.id].adapters
            missing = next((name for name in wanted if name not in engine.adapters), None)
            unwanted = next((name for name in engine.adapters if name not in wanted), None)
            if unwanted is not None:
                await asyncio.to_thread(engine.unload_adapter, unwanted)
            elif missing is None:
                return
            else:
                await self._attach(model, engine, missing, wanted[missing])

    async def _attach(self, model: ServedModel, engine: EngineThread, name: str, source: str) -> None:
        try:
            await asyncio.to_thread(engine.load_adapter, name, source)
        except MultiheadError as error:
            log.error("the adapter %s of %s is gone: %s", name, model.id, error)
            settings = self.known[model.id]
            left = {each: path for each, path in settings.adapters.items() if each != name}
            self.known[model.id] = replace(settings, adapters=left)

    async def _build(self, settings: ModelSettings) -> ServedModel:
        if self.settings.model_memory is None:
            return await self._read(settings)
        async with self._budget:
            await self._make_room(await asyncio.to_thread(file_bytes, settings.source), settings.id)
            model = await self._read(settings)
            try:
                await self._make_room(model.weight_bytes, settings.id)
            except ApiError:
                await asyncio.to_thread(model.close)
                raise
            return model

    async def _read(self, settings: ModelSettings) -> ServedModel:
        """Return a model, loaded in a thread; watchers learn how far it is."""
        shares = LoadShares(self.events, settings.id)
        configured = next(model.adapters for model in self.settings.models if model.id == settings.id)
        # those that admins have loaded follow, and are not needed
        adapters = {name: source for name, source in settings.adapters.items() if name in configured}
        own = replace(settings, adapters=adapters)

        def load() -> ServedModel:
            with watch_load(shares.tell):
                return ServedModel.load(own, self.settings)

        return await asyncio.to_thread(load)

    async def _make_room(self, need: int, name: str) -> None:
        """Unload models that nobody uses until `need` bytes are free. Raises ApiError."""
        limit = self.settings.model_memory or 0
        if need > limit:
            log.error("%s needs %d bytes; model_memory is %d", name, need, limit)
            raise ApiError(f"The model {name} is larger than the memory for models.", 507, code="model_too_large")
        deadline = time.monotonic() + ROOM_SECONDS
        while self.bytes + need > limit:
            idle = [model for model in self.loaded.values() if not model.users and model.id != name]
            if idle:
                await self.unload(min(idle, key=lambda model: model.last_used).id)
                await self._close_retired()
                continue
            if time.monotonic() > deadline:
                raise ApiError(
                    "All memory for models is in use by other requests. Try again later.", 503, code="models_busy",
                    headers={"Retry-After": "10"},
                )  # fmt: skip
            await asyncio.sleep(POLL_SECONDS)
            await self._close_retired()

    async def reload(self, name: str) -> ServedModel:
        """Load a model again from its files; requests that run keep the one before until they end. Raises ApiError."""
        settings = self.resolve(name)
        while (running := self._loads.get(settings.id)) is not None:
            await asyncio.wait({running})
        self.failed.pop(settings.id, None)
        return await asyncio.shield(self._begin_load(settings))

    async def unload(self, name: str) -> bool:
        """Unload a model once no request uses it; the next one loads it again. Return False if it was not loaded."""
        model = self.loaded.pop(self.resolve(name).id, None)
        if model is None:
            return False
        self.events.tell(model.id, "unloading")
        await self._retire(model)
        return True

    def keep(self, name: str, seconds: float | None) -> None:
        """Unload a model after other seconds without use: 0 for at once, negative for never, None as for all."""
        model = self.loaded.get(self.resolve(name).id)
        if model is not None:
            model.keep = math.inf if seconds is not None and seconds < 0 else seconds

    async def _retire(self, model: ServedModel) -> None:
        self.retired.append(model)
        await self._close_retired()

    async def _close_retired(self) -> None:
        """Close the models that nobody holds any more. Several tasks may do so at once, each model for one of them."""
        while (model := next((each for each in self.retired if not each.users), None)) is not None:
            self.retired.remove(model)
            self._closing.append(model)
            try:
                await asyncio.to_thread(model.close)
            finally:
                self._closing.remove(model)
            log.info("%s is unloaded", model.id)
            if model.id not in self.loaded:
                self.events.tell(model.id, "unloaded")

    async def tend(self) -> None:
        """Unload what is idle, and load again what has died, until cancelled."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            try:
                await self._tend_once(time.monotonic())
            except ApiError as error:
                log.warning("%s", error)
            except Exception:  # of one model's end: the others are tended further
                log.exception("models cannot be tended")

    async def _tend_once(self, now: float) -> None:
        await self._close_retired()
        for model in list(self.loaded.values()):
            if model.dead:
                log.critical("a thread of %s has died; the model is loaded again", model.id)
                await self.reload(model.id)
                continue
            limit = self.settings.idle_timeout if model.keep is None else model.keep
            if limit is not None and not model.users and now - model.last_used >= limit:
                await self.unload(model.id)

    async def close(self) -> None:
        """End all loads and models, also those that requests still hold."""
        for task in list(self._loads.values()):
            task.cancel()
        for model in (*self.loaded.values(), *self.retired):
            await asyncio.to_thread(model.close)
        self.loaded.clear()
        self.retired.clear()


def load_error(name: str, seconds: float) -> ApiError:
    """Return the error of a model that cannot be loaded; the cause may have paths and is for the log only."""
    return ApiError(
        f"The model {name} cannot be loaded; the server's log says why.", 503, param="model", code="model_not_loaded",
        headers={"Retry-After": str(math.ceil(seconds))},
    )  # fmt: skip
