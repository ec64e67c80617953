"""Facts of a request that is being answered: its id, its key, its model, its tokens."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request

from .errors import ApiError
from .keys import Key

SCOPE = "multihead.request"


class Leased(Protocol):
    """A model that stays loaded while requests use it."""

    users: int
    last_used: float


class TokenClock:
    """Times of the tokens that a request generates, in seconds of `time.monotonic`.

    Attributes:
        first, last: 0 before any token. gaps: seconds between tokens of the same continuation.
        started: when the engine took the prompt out of the queue.
    """

    def __init__(self) -> None:
        self.first = self.last = self.started = 0.0
        self.gaps: list[float] = []
        self._latest: dict[int, float] = {}

    def token(self, choice: int) -> None:
        """Note a token of a continuation."""
        self.last = now = time.monotonic()
        self.first = self.first or now
        if choice in self._latest:
            self.gaps.append(now - self._latest[choice])
        self._latest[choice] = now


@dataclass(eq=False)
class RequestInfo:
    """A request.

    Attributes:
        id: of the x-request-id header. key: None on a server without keys, and on public paths.
        model: name of the model that answers. adapter: name of its LoRA adapter, if the request named one.
        prompt_tokens, cached_tokens, generation_tokens: for logs and metrics.
        finish_reason: of the answer. error: code of the error instead.
        clock: of its tokens. leases: models that stay loaded until the request ends.
        begin: of `time.monotonic`.
    """

    id: str
    key: Key | None = None
    model: str = ""
    adapter: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    finish_reason: str = ""
    error: str = ""
    clock: TokenClock = field(default_factory=TokenClock)
    leases: list[Leased] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    def hold(self, model: Leased) -> None:
        """Keep a model loaded until the request has ended."""
        if not any(held is model for held in self.leases):
            model.users += 1
            self.leases.append(model)

    def release(self) -> None:
        """Let the models of the request go."""
        for model in self.leases:
            model.users -= 1
            model.last_used = time.monotonic()
        self.leases.clear()


_current: ContextVar[RequestInfo | None] = ContextVar("multihead_request", default=None)


def current_request() -> RequestInfo | None:
    """Return the request of this task; None outside of requests."""
    return _current.get()


def info_of(request: Request) -> RequestInfo:
    """Return what is known of a request; it may be written to."""
    return info_in(request.scope)


def info_in(scope: MutableMapping[str, Any]) -> RequestInfo:
    """Return the same of an ASGI scope; a new one where no middleware has made it."""
    info: RequestInfo = scope.setdefault(SCOPE, RequestInfo(id=""))
    return info


def cache_salt(request: Request, given: str | None = None) -> bytes:
    """Return the salt of the prefix cache: of the request's key and of what the request gives itself."""
    key = info_of(request).key
    return (b"" if key is None else key.salt) + (given or "").encode()


def require_admin(request: Request) -> None:
    """Raise ApiError unless the request came with the key of an admin."""
    key = info_of(request).key
    if key is None or not key.is_admin:
        raise ApiError("This needs the key of an admin.", 403, code="admin_only")
