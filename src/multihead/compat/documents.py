"""Decorators for docstrings that classes of programs take from the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def add_start_docstrings(*texts: str) -> Callable[[F], F]:
    """Return a decorator that puts texts before a docstring."""

    def decorate(function: F) -> F:
        function.__doc__ = "".join(texts) + (function.__doc__ or "")
        return function

    return decorate


add_start_docstrings_to_model_forward = add_start_docstrings


def add_end_docstrings(*texts: str) -> Callable[[F], F]:
    """Return a decorator that puts texts behind a docstring."""

    def decorate(function: F) -> F:
        function.__doc__ = (function.__doc__ or "") + "".join(texts)
        return function

    return decorate


def add_code_sample_docstrings(*args: Any, **options: Any) -> Callable[[F], F]:
    """Return a decorator that changes nothing: examples are made for the reference's own pages."""
    return lambda function: function


replace_return_docstrings = add_code_sample_docstrings


def auto_docstring(function: Any = None, **options: Any) -> Any:
    """Return a function or class as it is; with options, a decorator that does."""
    return function if function is not None else lambda inner: inner
