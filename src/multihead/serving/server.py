"""The process: from its socket to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Generator

import uvicorn

from ..errors import MultiheadError
from .app import build_app
from .protocol import limited_protocol
from .settings import ServerSettings
from .sockets import load_certificate, url
from .start import Start, begin
from .state import ServerState

log = logging.getLogger("multihead.serving")
END_SECONDS = 5  # for connections whose requests have been answered


def run(settings: ServerSettings, start: Start | None = None) -> None:
    """Serve until a signal ends the process. Raises MultiheadError if it cannot begin."""
    server = create(settings, start)
    raise_file_limit()
    try:
        server.run()
    finally:
        remove_socket(settings)
    if server.state.fault is not None:
        raise server.state.fault


def create(settings: ServerSettings, start: Start | None = None) -> Server:
    """Return a server that listens; `run` answers. Raises MultiheadError for settings that are not possible."""
    start = start or begin(settings.check(), load=False)
    app = build_app(settings, start.load)
    state: ServerState = app.state.server
    config = uvicorn.Config(
        app, root_path=settings.root_path, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        http=limited_protocol(settings), ws="none", timeout_graceful_shutdown=END_SECONDS,
    )  # fmt: skip
    config.load()
    config.ssl = start.tls
    return Server(config, state, start.socket)


class Server(uvicorn.Server):
    """Server whose first SIGTERM or SIGINT lets running requests end and whose second ends at once.

    SIGHUP reads the API keys and the TLS certificate again.

    Attributes:
        url: for people, with the port that the socket really has.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState, found: socket.socket) -> None:
        super().__init__(config)
        self.state, self.socket, self.url = state, found, url(state.settings, found)
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([self.socket])
        log.info("serving on %s", self.url, extra={"fields": {"url": self.url}})

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():  # signals belong to the program around it
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.state.fault is not None

    def end(self, number: int) -> None:
        """End after the running requests; at once when it is called a second time."""
        if self._draining is not None:
            log.warning("a second signal: %d requests are cut off", len(self.state.running))
            remove_socket(self.state.settings)
            os._exit(128 + number)
        self.state.draining = True
        self.state.models.events.close()
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        seconds = self.state.settings.drain_timeout
        log.info("draining: %d requests have %g s to end", len(self.state.running), seconds)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.state.running and loop.time() < deadline:
            await asyncio.sleep(0.05)
        if self.state.running:
            log.warning("%d requests are cut off after %g s", len(self.state.running), seconds)
            self.config.timeout_graceful_shutdown = 0
        self.should_exit = True

    def reload(self) -> None:
        """Read the API keys and the certificate again; what cannot be read stays as it was."""
        self.state.keys.reload()
        if self.config.ssl is not None:
            try:
                load_certificate(self.config.ssl, self.state.settings)
            except MultiheadError as error:
                log.error("the certificate stays as it was: %s", error)


def remove_socket(settings: ServerSettings) -> None:
    """Remove the file of a unix socket."""
    if settings.uds is not None:
        settings.uds.unlink(missing_ok=True)


def raise_file_limit() -> None:
    """Let the process have as many open connections as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
