"""State of a server that all requests share."""

from __future__ import annotations

import time

from starlette.requests import Request

from .models.registry import ModelRegistry
from .settings import ServerSettings


class ServerState:
    """Settings, models and condition of a server.

    Attributes:
        ready: all models that are loaded at the start are loaded. draining: no new request is taken.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.models = ModelRegistry(settings)
        self.ready = self.draining = False
        self.started = time.time()


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request came to."""
    state: ServerState = request.app.state.server
    return state
