"""Errors inside a stream that has begun."""

from __future__ import annotations

from ...errors import ApiError, error_detail
from ...sse import event


def error_event(error: ApiError) -> bytes:
    """Return an error as the last event of a stream; OpenAI's clients raise it."""
    return event({"error": error_detail(error)})
