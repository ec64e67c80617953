"""/: the page."""

from __future__ import annotations

import gzip
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response

from ..errors import ApiError
from ..page.build import build_page
from ..routing import route
from ..state import state_of

HEADERS = {
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-write=(self)",
}  # fmt: skip


@lru_cache(maxsize=1)
def packed() -> bytes:
    """Return the page in gzip, the same bytes for the same page."""
    return gzip.compress(build_page().html, 9, mtime=0)


async def page(request: Request) -> Response:
    if not state_of(request).settings.page:
        raise ApiError("This server has no page.", 404, code="not_found")
    built = build_page()
    # a browser asks each time whether the page has changed, and loads it again only then
    headers = {**HEADERS, "Content-Security-Policy": built.policy, "ETag": built.etag, "Cache-Control": "no-cache",
               "Vary": "Accept-Encoding"}  # fmt: skip
    if built.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed(), media_type="text/html", headers={**headers, "Content-Encoding": "gzip"})
    return Response(built.html, media_type="text/html", headers=headers)


ROUTES = [route("/", page, ("GET",))]
