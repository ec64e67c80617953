"""Guard around the hub client: path checks, time limits, size limits, and messages about waiting."""

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
from ..terminal import safe_message

PATIENCE = 60.0  # seconds of waiting for a server
CRAWL = 4096  # bytes; a server that gives less in all that time gives nothing
LISTING = 1 << 26  # bytes
LARGE = "The server's answer is larger than any of its kind. Do not trust it."
# The hub's library makes file names of these: a hash in quotes.
NAMING = ("etag", "x-linked-etag", "x-repo-commit")
TAG = re.compile(r'(W/)?"?(?!\.)(?!.*\.\.)[\w.+=-]{1,200}"?', re.ASCII)
LOCKS = re.compile(r"Still waiting to acquire lock on (.*)")


class Pace(threading.local):
    """Time that this thread has waited for a server without useful progress.

    Waiting for a lock of another process is none of it.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.since: float | None = None
        self.count = 0

    def begin_request(self) -> None:
        """Count a request. Raises TimeoutError if earlier requests had no response for too long."""
        self.count_time()
        self.since = time.monotonic()

    def count_time(self) -> None:
        """Count the time until now. Raises TimeoutError."""
        if self.since is not None:
            self.waited, self.since = self.waited + time.monotonic() - self.since, time.monotonic()
        if self.waited > PATIENCE:
            self.end_response()
            raise TimeoutError(f"it gave nothing for {PATIENCE:.0f} s")

    def count_bytes(self, count: int) -> None:
        """Count received bytes. Raises TimeoutError."""
        self.count += count
        if self.count >= CRAWL:
            self.waited, self.since, self.count = 0.0, time.monotonic(), 0
        self.count_time()

    def end_response(self) -> None:
        """End a response."""
        self.waited, self.since, self.count = 0.0, None, 0


PACE = Pace()
_INSIDE: list[None] = []  # one for each download that goes on


def check_headers(headers: Any) -> None:
    """Raise UnsafeFile for headers that would give a path outside the cache."""
    for name in NAMING:
        value = headers.get(name)
        if value and not TAG.fullmatch(value):
            raise UnsafeFile(f"The server names a file by {name} {value!r}, which is no hash. Do not trust it.")


def is_own_request(request: Any) -> bool:
    """Return True if a request belongs to a download of this package; the client also serves the whole program."""
    return bool(_INSIDE) and request.method in ("GET", "HEAD")


def prepare_request(request: Any) -> None:
    """Prepare a request of the hub client, so that the response has its real size."""
    if not is_own_request(request):
        return
    request.headers["Accept-Encoding"] = "identity"
    PACE.begin_request()


def check_response(response: Any, *_: Any, **__: Any) -> None:
    """Check the headers of a response before its body is read."""
    if not is_own_request(response.request):
        return
    check_headers(response.headers)
    stream = getattr(response, "stream", None)
    library = sys.modules[type(response).__module__.partition(".")[0]]
    base: Any = getattr(library, "SyncByteStream", None)
    if base is None or not isinstance(stream, base):  # requests, of before version 1 of the hub's library
        PACE.end_response()
        if "/api/" in str(response.request.url):
            response.raw.stream = limit_parts(response.raw.stream)
        return
    PACE.count_time()
    if response.request.method == "HEAD":
        PACE.end_response()
    else:
        response.stream = counting_stream(base)(stream, wire_limit(response))


def wire_limit(response: Any) -> float:
    """Return the largest size in bytes of a response on the wire: a thousandth of its unpacked limit."""
    listing = "/api/" in str(response.request.url)
    if response.headers.get("content-encoding", "identity") != "identity":
        return LISTING / 256 if listing else LISTING / 4
    return LISTING if listing else float("inf")


def limit_parts(stream: Any) -> Any:
    """Wrap a method that yields unpacked parts of a listing, to limit their bytes."""

    def parts(*words: Any, **options: Any) -> Iterator[bytes]:
        left = LISTING
        for part in stream(*words, **options):
            left -= len(part)
            if left < 0:
                raise UnsafeFile(LARGE)
            yield part

    return parts


def counting_stream(base: type) -> Any:
    """Return a class of HTTP streams that count their bytes."""

    class Paced(base):  # type: ignore[misc]
        def __init__(self, inner: Any, limit: float) -> None:
            self.inner, self.limit = inner, limit

        def __iter__(self) -> Iterator[bytes]:
            for part in self.inner:
                PACE.count_bytes(len(part))
                self.limit -= len(part)
                if self.limit < 0:
                    raise UnsafeFile(LARGE)
                yield part
            PACE.end_response()

        def close(self) -> None:
            self.inner.close()

    return Paced


class WaitMessages(logging.Handler):
    """Log handler that reports what the hub client waits for."""

    def emit(self, record: logging.LogRecord) -> None:
        if found := LOCKS.match(record.getMessage()):
            warn(f"Another process fetches the same file; waiting for it ({found[1]}).")


class SafeTextFilter(logging.Filter):
    """Log filter that makes server text safe to print."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = safe_message(record.getMessage()), ()
        return True


@contextmanager
def guarded() -> Iterator[None]:
    """Check every response to the hub client inside the block, and report what it waits for."""
    _install_hooks()
    for handler in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(known, SafeTextFilter) for known in handler.filters):
            handler.addFilter(SafeTextFilter())
    log, words = logging.getLogger("huggingface_hub.utils._fixes"), WaitMessages(logging.INFO)
    level, log.level = log.level, min(log.getEffectiveLevel(), logging.INFO)
    log.addHandler(words)
    PACE.end_response()
    _INSIDE.append(None)
    try:
        yield
    finally:
        _INSIDE.pop()
        log.removeHandler(words)
        log.setLevel(level)


def _install_hooks() -> None:
    """Add the checks to the HTTP client of the hub client, once."""
    import huggingface_hub

    older: Any = getattr(huggingface_hub, "configure_http_backend", None)
    if older is not None:
        _install_requests_hooks(older)
        return
    from huggingface_hub import utils

    client: Any = utils.get_session()  # type: ignore[attr-defined]
    hooks = client.event_hooks
    if check_response not in hooks["response"]:
        client.event_hooks = {
            "request": [*hooks["request"], prepare_request], "response": [check_response, *hooks["response"]],
        }  # fmt: skip


def _install_requests_hooks(configure: Any) -> None:
    """Add the checks for client versions before 1, which keep a `requests` session in each thread."""
    from huggingface_hub.utils import _http

    factory: Any = _http._GLOBAL_BACKEND_FACTORY  # type: ignore[attr-defined]
    if getattr(factory, "guarded", False):
        return

    def new_session() -> Any:
        session = factory()
        session.hooks["response"].insert(0, check_response)
        return session

    new_session.guarded = True  # type: ignore[attr-defined]
    configure(backend_factory=new_session)
