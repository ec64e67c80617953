"""Errors as Text Generation Inference writes them, which huggingface_hub reads."""

from __future__ import annotations

from starlette.responses import JSONResponse

from ...errors import ApiError

TYPES = {429: "overloaded", 500: "generation", 503: "unavailable"}


def inference_content(error: ApiError) -> dict[str, str]:
    return {"error": str(error), "error_type": TYPES.get(error.status, "validation")}


def inference_error(error: ApiError) -> JSONResponse:
    return JSONResponse(inference_content(error), error.status, error.headers)
