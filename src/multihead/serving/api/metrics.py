"""/metrics (Prometheus)."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ..errors import ApiError
from ..routing import route
from ..state import state_of


async def metrics(request: Request) -> Response:
    found = state_of(request).metrics
    if found is None:
        raise ApiError("Metrics are turned off on this server.", 404)
    return Response(found.text(), media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})


ROUTES = [route("/metrics", metrics, ("GET",))]
