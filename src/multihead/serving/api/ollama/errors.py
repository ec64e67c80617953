"""Errors in Ollama's shape."""

from __future__ import annotations

from starlette.responses import JSONResponse

from ...errors import ApiError
from ...sse import line


def ollama_error(error: ApiError) -> JSONResponse:
    """Return an error as a response."""
    return JSONResponse({"error": str(error)}, error.status, error.headers)


def error_line(error: ApiError) -> bytes:
    """Return an error as the last line of a stream."""
    return line({"error": str(error)})
