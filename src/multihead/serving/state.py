"""State of a server that all requests share."""

from __future__ import annotations

import time

from starlette.requests import Request

from .keys import KeyRing
from .metrics import Metrics
from .models.registry import ModelRegistry
from .request_info import RequestInfo
from .settings import ServerSettings
from .start import EarlyLoad
from .tracing import Tracing


class ServerState:
    """Settings, keys, models and condition of a server.

    Attributes:
        metrics: None if they are turned off. tracing: None without OpenTelemetry.
        ready: all models that are loaded at the start are loaded. draining: no new request is taken.
        fault: why the server will never be ready. running: the requests that are being answered.
    """

    def __init__(self, settings: ServerSettings, begun: EarlyLoad | None = None) -> None:
        self.settings = settings
        self.keys = KeyRing(settings.keys_file)
        self.models = ModelRegistry(settings, begun)
        self.metrics = Metrics(self) if settings.metrics else None
        self.tracing = Tracing.start()
        self.ready = self.draining = False
        self.fault: BaseException | None = None
        self.running: set[RequestInfo] = set()
        self.started = time.time()

    @property
    def condition(self) -> str:
        """ready, loading, draining, failed (a model cannot be loaded), dead or stalled (an engine)."""
        models = self.models.loaded.values()
        if self.draining:
            return "draining"
        if any(model.stalled > self.settings.watchdog_timeout for model in models):
            return "stalled"
        if any(model.dead for model in models):
            return "dead"
        return "failed" if self.fault is not None else "ready" if self.ready else "loading"


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request came to."""
    state: ServerState = request.app.state.server
    return state
