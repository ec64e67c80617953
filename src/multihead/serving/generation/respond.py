"""Responses that stream a generation, in any interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from ..errors import ApiError
from ..sse import EventStream
from .stream import Generation

SPARE = 60.0  # seconds of a stream beyond the time limit of its generation, for a reader that is slow


async def stream_response(
    generation: Generation,
    chunks: AsyncGenerator[bytes, None],
    on_error: Callable[[ApiError], bytes],
    *,
    comments: bool = True,
    media_type: str | None = None,
) -> EventStream:
    """Return the response of a stream, once its first token is there or a silence is over.

    Args:
        chunks, on_error: as in `EventStream`. comments: fill silence, which server-sent events alone allow.

    Raises:
        ApiError: the generation failed before its first token, so that the response has an HTTP status.
    """
    server = generation.model.server
    await generation.first(server.keep_alive_interval)
    return EventStream(
        chunks, on_error, keep_alive=server.keep_alive_interval if comments else None,
        timeout=server.request_timeout + SPARE, media_type=media_type,
    )  # fmt: skip
