"""Spans of characters and tokens, and the type of collators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

DataCollator = Callable[[list[Any]], dict[str, Any]]


class CharSpan(NamedTuple):
    """Characters of a text: the first, and one past the last."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens of an encoded text: the first, and one past the last."""

    start: int
    end: int
