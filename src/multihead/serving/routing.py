"""Routes whose errors have the shape of their interface."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .errors import ApiError, openai_error, to_api_error

log = logging.getLogger("multihead.serving")
Handler = Callable[[Request], Awaitable[Response]]
ErrorShape = Callable[[ApiError], Response]


def route(path: str, handler: Handler, methods: Sequence[str] = ("POST",), shape: ErrorShape = openai_error) -> Route:
    """Return a route.

    Args:
        shape: makes the response of an error.
    """

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            found = to_api_error(error)
            if found.status >= 500:
                log.error("%s %s failed", request.method, path, exc_info=error)
            return shape(found)

    answer.__name__ = handler.__name__
    return Route(path, answer, methods=list(methods))
