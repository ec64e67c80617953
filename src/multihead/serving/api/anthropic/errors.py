"""Errors in Anthropic's shape."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from ...errors import ApiError
from ...request_info import current_request
from ...sse import event

TYPES = {500: "api_error", 503: "overloaded_error"}  # where the words differ from OpenAI's


def error_body(error: ApiError) -> dict[str, Any]:
    info = current_request()
    detail = {"type": TYPES.get(error.status, error.kind), "message": str(error)}
    return {"type": "error", "error": detail, "request_id": info.id if info is not None else None}


def anthropic_error(error: ApiError) -> JSONResponse:
    """Return an error as a response."""
    body = error_body(error)
    return JSONResponse(body, error.status, {**error.headers, "request-id": str(body["request_id"] or "")})


def error_event(error: ApiError) -> bytes:
    """Return an error as the last event of a stream."""
    return event(error_body(error), "error")
