"""/openapi.json and /docs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ..errors import ApiError
from ..openapi.document import document
from ..openapi.page import POLICY, page
from ..routing import route
from ..state import state_of


def described(request: Request) -> dict[str, Any]:
    """Return the document of the application. Raises ApiError if docs are turned off."""
    state = state_of(request)
    if not state.settings.docs:
        raise ApiError("The description of the interfaces is turned off on this server.", 404)
    return document(request.app.routes, root_path=state.settings.root_path, with_keys=bool(state.keys))


async def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(described(request))


async def docs(request: Request) -> Response:
    """Return a page of the OpenAPI document."""
    return HTMLResponse(page(described(request)), headers={"Content-Security-Policy": POLICY})


ROUTES = [route("/openapi.json", openapi, ("GET",)), route("/docs", docs, ("GET",))]
