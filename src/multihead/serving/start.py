"""The start of a process: its socket, then the load of the first model while the rest of the server is imported."""

from __future__ import annotations

import gc
import socket
import ssl
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..load_progress import LoadRelay, watch_load
from ..runtime.turns import take_turns
from .keys import KeyRing
from .settings import ModelSettings, ServerSettings
from .sockets import check_public, listen, tls

if TYPE_CHECKING:
    from .models.served_model import ServedModel


@dataclass(frozen=True)
class EarlyLoad:
    """Load of a model that began before there was a server.

    Args:
        progress: tells how far the load is. begin: seconds of a monotonic clock.
    """

    model: ModelSettings
    future: Future[ServedModel]
    progress: LoadRelay
    begin: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Start:
    """Parts of a process before its server: a listening socket, a TLS context, and a model in loading."""

    socket: socket.socket
    tls: ssl.SSLContext | None
    load: EarlyLoad | None


def begin(settings: ServerSettings, *, load: bool = True) -> Start:
    """Open the socket, and begin to load the first model if `load`. Raises MultiheadError for impossible settings."""
    check_public(settings, bool(KeyRing(settings.keys_file)))
    context = tls(settings)
    # before the load, which would have to end before the process could
    found = listen(settings)
    return Start(found, context, begin_load(settings) if load else None)


def begin_load(settings: ServerSettings) -> EarlyLoad | None:
    """Load the first model in a thread; None if its memory must be looked at first, or nothing is to be loaded."""
    first = next((model for model in settings.models if model.preload), None)
    if first is None or settings.model_memory is not None:
        return None
    from .models.served_model import ServedModel

    take_turns()
    gc.disable()  # imports and a load make a million objects that stay, and each collection would look at all of them
    pool = ThreadPoolExecutor(1, thread_name_prefix="multihead-load")
    progress = LoadRelay()

    def load() -> ServedModel:
        with watch_load(progress):
            return ServedModel.load(first, settings)

    future = pool.submit(load)
    future.add_done_callback(lambda _: collect_garbage())
    pool.shutdown(wait=False)
    return EarlyLoad(first, future, progress)


def collect_garbage() -> None:
    """Let Python collect garbage again, but never look at the objects that are there, which would delay answers."""
    gc.freeze()
    gc.enable()
