"""Engines that run in threads of their own, by model: `generate` and pipelines then submit their jobs to them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from ..runtime.turns import holds_turn
from .strategies.base import GenerationJob


class JobHost(Protocol):
    """A running engine to which other threads give jobs."""

    @property
    def thread(self) -> threading.Thread: ...

    def run_jobs(self, jobs: Sequence[GenerationJob]) -> list[BaseException | None]:
        """Run jobs to their end, and return the error of each. Their listeners are called in the calling thread."""


_hosts: WeakKeyDictionary[Any, ref[JobHost]] = WeakKeyDictionary()


def attach_host(model: Any, host: JobHost) -> None:
    """Let `generate` and pipelines of this model submit to a running engine. The last one that is attached counts."""
    _hosts[model] = ref(host)


def detach_host(model: Any, host: JobHost) -> None:
    """Let `generate` of this model run by itself again."""
    if model in _hosts and _hosts[model]() is host:
        del _hosts[model]


def host_of(model: Any) -> JobHost | None:
    """Return the running engine of a model; None without one, and in a thread that must not wait for it."""
    known = _hosts.get(model) if _hosts else None
    host = None if known is None else known()
    return None if host is None or host.thread is threading.current_thread() or holds_turn() else host
