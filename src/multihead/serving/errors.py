"""Errors of requests: HTTP status, and the shape that each interface gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from ..errors import (
    AccessDenied,
    ChatTemplateError,
    InvalidInput,
    MemoryFull,
    ModelNotFound,
    MultiheadError,
    NoContinuation,
    ScoresNotFinite,
    TextTooLong,
    UnknownModel,
    UnknownPart,
    UnsupportedOption,
)
from ..generation.engine_thread import EngineStopped

INTERNAL = "The server failed to answer this request. Its log has the cause under this request id."
REQUEST_ERRORS = (InvalidInput, UnsupportedOption, ChatTemplateError, UnknownPart)  # what the client can mend
TYPES: Mapping[int, str] = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error", 411: "invalid_request_error",
    413: "request_too_large", 415: "invalid_request_error", 422: "invalid_request_error", 424: "model_error",
    429: "rate_limit_error", 431: "request_too_large", 500: "server_error", 503: "overloaded_error",
    507: "server_error",
}  # fmt: skip


class ApiError(MultiheadError):
    """Error that ends a request.

    Args:
        message: shown to the client. status: HTTP status. param: the field of the request that is wrong.
        code: short name, such as "model_not_found". headers: of the response, such as Retry-After.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @property
    def kind(self) -> str:
        """The `type` of OpenAI's and Anthropic's errors."""
        return TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")


def to_api_error(error: BaseException) -> ApiError:
    """Return the error that a client sees. Texts of unexpected errors stay in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineStopped):
        return ApiError(
            "The engine of this model has stopped; it is started again. Send the request again.", 503,
            code="engine_stopped", headers={"Retry-After": "5"},
        )  # fmt: skip
    if isinstance(error, TextTooLong):
        return ApiError(capitalize(str(error)), 400, code="context_length_exceeded")
    if isinstance(error, (MemoryFull, NoContinuation)):
        return ApiError(capitalize(str(error)), 400, code="invalid_request")
    if isinstance(error, ScoresNotFinite):
        return ApiError(capitalize(str(error)), 500, code="scores_not_finite")
    if isinstance(error, REQUEST_ERRORS):
        return ApiError(capitalize(str(error)), 400)
    if isinstance(error, (ModelNotFound, UnknownModel, AccessDenied)):
        return ApiError("The model cannot be loaded; the server's log has the cause.", 404, code="model_not_found")
    return ApiError(INTERNAL, 500)


def capitalize(message: str) -> str:
    """Return a message as a sentence: those of pipelines continue "Input 7"."""
    begin = message.split(" ", 1)[0]
    return f"The input {message}" if begin in ("has", "must", "is", "leaves", "needs") else message


def error_detail(error: ApiError) -> dict[str, Any]:
    """Return an error as the object of OpenAI's interface."""
    return {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}


def openai_error(error: ApiError) -> JSONResponse:
    """Return an error in OpenAI's shape."""
    return JSONResponse({"error": error_detail(error)}, error.status, error.headers)
