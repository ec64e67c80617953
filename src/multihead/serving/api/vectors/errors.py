"""Shapes of errors: Cohere's and TEI's."""

from __future__ import annotations

from starlette.responses import JSONResponse

from ...errors import TYPES, ApiError, error_detail

TEI_TYPES = {400: "Empty", 422: "Validation", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}


def cohere_error(error: ApiError) -> JSONResponse:
    """Return an error as Cohere's interface does: `message`; `param` and `code` are added."""
    content = {"message": str(error), "param": error.param, "code": error.code, "type": TYPES.get(error.status)}
    return JSONResponse(content, error.status, error.headers)


def rerank_error(error: ApiError) -> JSONResponse:
    """Return an error in Cohere's shape, and in vLLM's and Jina's clients' too, which read `error`."""
    content = {"message": str(error), "param": error.param, "code": error.code, "type": error.kind}
    return JSONResponse({**content, "error": error_detail(error)}, error.status, error.headers)


def tei_error(error: ApiError) -> JSONResponse:
    """Return an error as Text Embeddings Inference does: 422 for what is not valid, 400 for what is empty."""
    status = error.status
    if status == 400 and error.code not in ("empty_input", "unsupported_task"):
        status = 422
    elif status == 500:
        status = 424
    return JSONResponse({"error": str(error), "error_type": TEI_TYPES.get(status, "Validation")}, status, error.headers)
