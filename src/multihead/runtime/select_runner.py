"""Choice of the decode runner that serves a model."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import UnsupportedOption
from ..nn.cache.store import KVCacheManager
from .cpu_decode_runner import CpuDecodeRunner
from .cuda_graph_runner import CudaGraphRunner
from .runner import DecodeRunner, EagerRunner

AUTO = "auto"
RUNNERS: dict[str, type[DecodeRunner]] = {kind.name: kind for kind in (CudaGraphRunner, CpuDecodeRunner, EagerRunner)}
CHOICES = (AUTO, *sorted(RUNNERS))

_idle: WeakKeyDictionary[nn.Module, DecodeRunner] = WeakKeyDictionary()  # runners that models keep between uses


def check_name(name: str, source: str = "decode_runner") -> str:
    """Return the name of a runner. Raises UnsupportedOption for another name."""
    if name not in CHOICES:
        raise UnsupportedOption(f"{source} = {name!r} is none of {', '.join(CHOICES)}.")
    return name


def default_name() -> str:
    """Return the name that MULTIHEAD_RUNNER sets, or "auto". Raises UnsupportedOption for another name."""
    return check_name(os.environ.get("MULTIHEAD_RUNNER") or AUTO, "MULTIHEAD_RUNNER")


def _name_for(model: Any) -> str:
    """Return the runner that a model names, or the default for a model without the attribute."""
    return getattr(model, "decode_runner", None) or default_name()


def refusal(kind: type[DecodeRunner], model: Any, store: KVCacheManager) -> str:
    """Return why a runner cannot serve a model; empty where it can."""
    if kind is not EagerRunner and getattr(model, "masked_next", None) is not None:
        return "its next tokens are predicted at a mask behind the text"
    return kind.refusal(model, store)


def select_runner(model: Any, store: KVCacheManager) -> DecodeRunner:
    """Return a new runner for a model: the one that it names, or the fastest that can serve it ("auto").

    Raises:
        UnsupportedOption: the runner that was named cannot serve the model.
    """
    name = _name_for(model)
    if name == AUTO:
        return next(kind(model, store) for kind in RUNNERS.values() if not refusal(kind, model, store))
    if reason := refusal(RUNNERS[name], model, store):
        raise UnsupportedOption(
            f"The decode runner {name!r} cannot serve this {type(model).__name__}: {reason}. Set model.decode_runner "
            f'(or MULTIHEAD_RUNNER) to "auto", which takes the fastest runner that can, or to "eager".'
        )
    return RUNNERS[name](model, store)


def take_idle_runner(model: Any) -> DecodeRunner | None:
    """Return the runner that a model keeps, which it then no longer keeps; None where none fits its next use."""
    # taken out, since a runner has one engine at a time
    runner = _idle.pop(model, None) if isinstance(model, nn.Module) else None
    if runner is None or _name_for(model) not in (AUTO, runner.name) or _autocast():
        return None
    runner.model = model  # removed while it was idle, see below
    return runner if runner.reusable else None


def keep_idle_runner(runner: DecodeRunner) -> None:
    """Let the runner's model keep it for its next use, if the runner can serve that; no sequence may be left."""
    model = runner.model
    if isinstance(model, nn.Module) and not _autocast() and runner.reusable:
        runner.store.clear()
        runner.model = None  # the dictionary must not keep its own key alive
        _idle[model] = runner


def report() -> dict[str, Any]:
    """Return the name that is set, and for each runner why it can serve no model here, empty where it can."""
    return {"setting": default_name(), "unavailable": {name: kind.unavailable() for name, kind in RUNNERS.items()}}


def _autocast() -> bool:
    """Return whether autocast is on: the next use may cache keys and values in another precision."""
    return torch.is_autocast_enabled("cuda")
