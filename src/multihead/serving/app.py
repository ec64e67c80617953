"""The ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from ..runtime.turns import take_turns
from .errors import ApiError
from .middleware import middleware
from .routing import http_error
from .settings import ServerSettings
from .start import EarlyLoad
from .state import ServerState

log = logging.getLogger("multihead.serving")
INTERFACES = (  # modules of `api`, each with ROUTES
    "docs",
    "health",
    "metrics",
    "admin",
    "adapters",
    "models",
    "inspect",
    "openai",
    "vectors",
    "anthropic",
    "ollama",
    "page",
    "hugging_face",
)


def routes() -> list[BaseRoute]:
    """Return the routes of all interfaces."""
    return [each for name in INTERFACES for each in import_module(f".api.{name}", __package__).ROUTES]


def build_app(settings: ServerSettings, begun: EarlyLoad | None = None) -> Starlette:
    """Return the application of a server; models are loaded while it starts to listen. `begun`: one of them."""
    state = ServerState(settings.check(), begun)
    take_turns()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(preload(state)), asyncio.create_task(state.models.tend())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await state.models.close()

    app = Starlette(
        routes=routes(), lifespan=lifespan, middleware=middleware(state), exception_handlers={HTTPException: http_error}
    )
    app.router.redirect_slashes = False  # the target would be made from the Host header
    app.state.server = state
    return app


async def preload(state: ServerState) -> None:
    """Load the models that are loaded at the start, one after the other; then the server is ready.

    One that cannot be loaded is the fault of the state, which ends `multihead serve`.
    """
    for model in state.settings.models:
        if model.preload:
            try:
                await state.models.load(model.id)
            except ApiError as error:
                state.fault = error.__cause__ or error
                return
    state.ready = True
