"""The process: socket, TLS, signals."""

from __future__ import annotations

import uvicorn

from .app import build_app
from .settings import ServerSettings


def run(settings: ServerSettings) -> None:
    """Serve until a signal ends the process."""
    config = uvicorn.Config(
        build_app(settings), host=settings.host, port=settings.port, root_path=settings.root_path,
        uds=None if settings.uds is None else str(settings.uds), log_config=None, access_log=False,
        ssl_certfile=settings.certificate, ssl_keyfile=settings.certificate_key, server_header=False,
        timeout_graceful_shutdown=round(settings.drain_timeout),
    )  # fmt: skip
    uvicorn.Server(config).run()
