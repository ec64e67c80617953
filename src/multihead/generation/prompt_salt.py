"""Salt of the cached prompts of what a thread generates: only calls with the same salt share beginnings of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_salt: ContextVar[bytes] = ContextVar("multihead_prompt_salt", default=b"")


@contextmanager
def prompt_salt(salt: bytes) -> Iterator[None]:
    """Let the calls of this thread, of `generate` and of pipelines, share cached prompts under this salt alone."""
    token = _salt.set(salt)
    try:
        yield
    finally:
        _salt.reset(token)


def current_salt() -> bytes:
    """Return the salt of this thread; empty without one."""
    return _salt.get()
