"""The signature of `forward` of each class, which programs inspect for the names of its labels and inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from torch import Tensor


def with_arguments(forward: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Return the same function with more names in its signature, which it takes as its `**more`.

    The copy runs the same code object, so that `runs_code_of` tells it from a replacement.
    """
    if not isinstance(forward, FunctionType):
        return forward
    signature = inspect.signature(forward)
    parameters = list(signature.parameters.values())
    shown = [name for name in names if name not in signature.parameters]
    if not shown or parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return forward
    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Tensor | None)
        for name in shown
    ]
    copy = FunctionType(
        forward.__code__, forward.__globals__, forward.__name__, forward.__defaults__, forward.__closure__
    )
    copy.__kwdefaults__, copy.__doc__, copy.__qualname__ = forward.__kwdefaults__, forward.__doc__, forward.__qualname__
    copy.__module__, copy.__annotations__ = forward.__module__, forward.__annotations__
    copy.__signature__ = signature.replace(parameters=[*parameters[:-1], *made, parameters[-1]])  # type: ignore[attr-defined]
    return copy


def runs_code_of(function: Any, others: Sequence[Any]) -> bool:
    """Return whether a function is one of others, or a copy with another signature; a wrapper is none."""
    code = getattr(function, "__code__", None)
    return code is not None and any(code is other.__code__ for other in others)
