"""What stands between the hub's library and a server: names that leave the cache, waiting without end, words unseen."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import UnsafeFile, warn
from ..terminal import shown

PATIENCE = 60.0  # seconds of waiting for a server
CRAWL = 4096  # bytes; a server that gives less in all that time gives nothing
LISTING = 1 << 26  # bytes
LARGE = "The server's answer is larger than any of its kind. Do not trust it."
# The hub's library makes file names of these: a hash in quotes.
NAMING = ("etag", "x-linked-etag", "x-repo-commit")
TAG = re.compile(r'(W/)?"?(?!\.)(?!.*\.\.)[\w.+=-]{1,200}"?', re.ASCII)
LOCKS = re.compile(r"Still waiting to acquire lock on (.*)")


class Pace(threading.local):
    """How long this thread has waited for a server since that gave something worth it.

    Waiting for a lock of another process is none of it.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.since: float | None = None
        self.count = 0

    def begins(self) -> None:
        """A request is sent; one before that had no answer was waited for too. Raises TimeoutError."""
        self.stands()
        self.since = time.monotonic()

    def stands(self) -> None:
        """Counts the time until now. Raises TimeoutError."""
        if self.since is not None:
            self.waited, self.since = self.waited + time.monotonic() - self.since, time.monotonic()
        if self.waited > PATIENCE:
            self.ends()
            raise TimeoutError(f"it gave nothing for {PATIENCE:.0f} s")

    def more(self, count: int) -> None:
        """So many bytes came. Raises TimeoutError."""
        self.count += count
        if self.count >= CRAWL:
            self.waited, self.since, self.count = 0.0, time.monotonic(), 0
        self.stands()

    def ends(self) -> None:
        """An answer is whole."""
        self.waited, self.since, self.count = 0.0, None, 0


PACE = Pace()
_INSIDE: list[None] = []  # one for each download that goes on


def checked(headers: Any) -> None:
    """Raises UnsafeFile for headers from which a path outside the cache would be made."""
    for name in NAMING:
        value = headers.get(name)
        if value and not TAG.fullmatch(value):
            raise UnsafeFile(f"The server names a file by {name} {value!r}, which is no hash. Do not trust it.")


def ours(request: Any) -> bool:
    """Whether a request is one of a download here; the client serves the rest of a program too, which may upload."""
    return bool(_INSIDE) and request.method in ("GET", "HEAD")


def asked(request: Any) -> None:
    """Before a request of the hub's library, whose answer shall have the size that it has."""
    if not ours(request):
        return
    request.headers["Accept-Encoding"] = "identity"
    PACE.begins()


def answered(response: Any, *_: Any, **__: Any) -> None:
    """After the headers of an answer are here, before anything is made of them."""
    if not ours(response.request):
        return
    checked(response.headers)
    stream = getattr(response, "stream", None)
    library = sys.modules[type(response).__module__.partition(".")[0]]
    base: Any = getattr(library, "SyncByteStream", None)
    if base is None or not isinstance(stream, base):  # requests, of before version 1 of the hub's library
        PACE.ends()
        if "/api/" in str(response.request.url):
            response.raw.stream = bounded(response.raw.stream)
        return
    PACE.stands()
    if response.request.method == "HEAD":
        PACE.ends()
    else:
        response.stream = paced(base)(stream, most(response))


def most(response: Any) -> float:
    """How many bytes an answer may have as it is sent: a thousandth of what a packed one may become."""
    listing = "/api/" in str(response.request.url)
    if response.headers.get("content-encoding", "identity") != "identity":
        return LISTING / 256 if listing else LISTING / 4
    return LISTING if listing else float("inf")


def bounded(stream: Any) -> Any:
    """A method that gives the parts of a listing, unpacked, up to as many bytes as one may have."""

    def parts(*words: Any, **options: Any) -> Iterator[bytes]:
        left = LISTING
        for part in stream(*words, **options):
            left -= len(part)
            if left < 0:
                raise UnsafeFile(LARGE)
            yield part

    return parts


def paced(base: type) -> Any:
    """A class of streams of an HTTP library, whose bytes are counted."""

    class Paced(base):  # type: ignore[misc]
        def __init__(self, inner: Any, limit: float) -> None:
            self.inner, self.limit = inner, limit

        def __iter__(self) -> Iterator[bytes]:
            for part in self.inner:
                PACE.more(len(part))
                self.limit -= len(part)
                if self.limit < 0:
                    raise UnsafeFile(LARGE)
                yield part
            PACE.ends()

        def close(self) -> None:
            self.inner.close()

    return Paced


class Words(logging.Handler):
    """Says what the hub's library waits for, which it tells its log alone."""

    def emit(self, record: logging.LogRecord) -> None:
        if found := LOCKS.match(record.getMessage()):
            warn(f"Another process fetches the same file; waiting for it ({found[1]}).")


class Visible(logging.Filter):
    """Makes what a server wants to be told text."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), ()
        return True


@contextmanager
def guarded() -> Iterator[None]:
    """Inside, every answer to the hub's library is checked, and what it waits for is said."""
    _hooked()
    for handler in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(known, Visible) for known in handler.filters):
            handler.addFilter(Visible())
    log, words = logging.getLogger("huggingface_hub.utils._fixes"), Words(logging.INFO)
    level, log.level = log.level, min(log.getEffectiveLevel(), logging.INFO)
    log.addHandler(words)
    PACE.ends()
    _INSIDE.append(None)
    try:
        yield
    finally:
        _INSIDE.pop()
        log.removeHandler(words)
        log.setLevel(level)


def _hooked() -> None:
    """Adds the checks to the client that the hub's library uses, once."""
    import huggingface_hub

    older: Any = getattr(huggingface_hub, "configure_http_backend", None)
    if older is not None:
        _hooked_older(older)
        return
    from huggingface_hub import utils

    client: Any = utils.get_session()  # type: ignore[attr-defined]
    hooks = client.event_hooks
    if answered not in hooks["response"]:
        client.event_hooks = {
            "request": [*hooks["request"], asked], "response": [answered, *hooks["response"]],
        }  # fmt: skip


def _hooked_older(configure: Any) -> None:
    """The same for versions before 1, which keep a session of `requests` for each thread."""
    from huggingface_hub.utils import _http

    factory: Any = _http._GLOBAL_BACKEND_FACTORY  # type: ignore[attr-defined]
    if getattr(factory, "guarded", False):
        return

    def made() -> Any:
        session = factory()
        session.hooks["response"].insert(0, answered)
        return session

    made.guarded = True  # type: ignore[attr-defined]
    configure(backend_factory=made)
