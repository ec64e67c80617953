"""Routes whose errors have the shape of their interface."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from .body import Body
from .errors import ApiError, openai_error, to_api_error
from .request_info import info_in, info_of

CLOSED = 499  # nginx's status of a request whose client has gone; it stands in logs alone
log = logging.getLogger("multihead.serving")
Handler = Callable[[Request], Awaitable[Response]]
ErrorShape = Callable[[ApiError], Response]


class ApiRoute(Route):
    """Route that knows the shape of its errors, and what describes it.

    Attributes:
        bodies: kinds of body that it reads. others: routes whose answers it may give. summary: one sentence.
    """

    shape: ErrorShape = staticmethod(openai_error)
    bodies: tuple[type[Body], ...] = ()
    others: tuple[ApiRoute, ...] = ()
    summary: str = ""


def route(
    path: str,
    handler: Handler,
    methods: Sequence[str] = ("POST",),
    shape: ErrorShape = openai_error,
    bodies: Sequence[type[Body]] = (),
    others: Sequence[ApiRoute] = (),
) -> ApiRoute:
    """Return a route.

    Args:
        shape: makes the response of an error. bodies: kinds of body that the handler reads, for /openapi.json.
        others: routes to one of which the handler leaves the request.
    """

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=CLOSED)
        except Exception as error:
            found = to_api_error(error)
            if found.status >= 500:
                log.error("%s %s failed", request.method, path, exc_info=error)
            info_of(request).error = found.code or found.kind
            return shape(found)

    answer.__name__ = handler.__name__
    answer.path = path  # type: ignore[attr-defined]
    made = ApiRoute(path, answer, methods=list(methods))
    made.shape, made.others = shape, tuple(others)
    made.bodies = (*bodies, *(body for other in others for body in other.bodies))
    made.summary = (handler.__doc__ or "").strip().partition("\n")[0]
    return made


def route_path(scope: MutableMapping[str, Any]) -> str:
    """Return the decoded path of a request as the router matches it: without `root_path`."""
    return get_route_path(scope)


def error_response(scope: MutableMapping[str, Any], error: ApiError) -> Response:
    """Return an error of middleware in the shape of the interface that was asked."""
    info_in(scope).error = error.code or error.kind
    for each in scope["app"].routes:
        if isinstance(each, ApiRoute) and each.matches(scope)[0] != Match.NONE:
            return each.shape(error)
    return openai_error(error)


def versioned(scope: MutableMapping[str, Any]) -> str:
    """Return a hint for clients whose base address lacks the version: the path exists behind /v1."""
    path = f"/v1{route_path(scope)}"
    if any(isinstance(each, ApiRoute) and each.path_regex.match(path) for each in scope["app"].routes):
        return f"{path:.80} is one: end the client's base URL with /v1. "
    return ""


async def http_error(request: Request, error: Exception) -> Response:
    """Return an error of the router: no such path (404), or no such method there (405)."""
    assert isinstance(error, HTTPException)
    text = {
        404: f"There is no such path here. {versioned(request.scope)}GET /openapi.json lists all.",
        405: f"This path does not answer to {request.method}.",
    }
    found = ApiError(text.get(error.status_code, error.detail), error.status_code, headers=error.headers)
    return error_response(request.scope, found)
