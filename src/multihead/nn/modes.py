"""Evaluation mode for the duration of a computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from torch import nn

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """Put modules in evaluation mode inside the block, and restore each module's own mode afterwards.

    Args:
        models: what is no module is passed over.
    """
    learning = [part for model in models if isinstance(model, nn.Module) for part in model.modules() if part.training]
    for part in learning:
        part.training = False
    try:
        yield
    finally:
        for part in learning:
            part.training = True


def in_evaluation(method: F) -> F:
    """Decorate a module's method so that it runs in evaluation mode."""

    @wraps(method)
    def call(self: nn.Module, *values: Any, **named: Any) -> Any:
        with evaluating(self):
            return method(self, *values, **named)

    return call  # type: ignore[return-value]
