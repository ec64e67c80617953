"""/openapi.json describes every route; any JSON that it allows, and any that it does not, gets a sound answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from multihead.serving.routing import ApiRoute
from tests.serving.conftest import RunningServer

WITHOUT_BODY = {"/admin/models/{name:path}/reload", "/embed_sparse"}


@pytest.fixture(scope="module")
def document(server: RunningServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json").json()
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_route_is_described(server: RunningServer, document: dict[str, Any]) -> None:
    routes = [route for route in server.app.routes if isinstance(route, ApiRoute)]
    assert len(routes) == len(server.app.routes), "a route without `route` has errors of another shape"
    for route in routes:
        if "POST" in (route.methods or ()) and route.path not in WITHOUT_BODY:
            assert route.bodies, f"{route.path} does not say which body it reads"
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= names
    operations = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(set(operations)) == len(operations)
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert chat["responses"]["4XX"]["content"]["application/json"]["schema"]["properties"]["error"]["required"]


def test_docs_need_no_network(server: RunningServer, document: dict[str, Any]) -> None:
    answer = server.get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert "http" not in answer.text.replace("http-equiv", "").replace("HTTP", ""), "nothing from elsewhere"
    for path in document["paths"]:
        assert path in answer.text
    parser = HTMLParser()
    parser.feed(answer.text)
    json.dumps(document, allow_nan=False)
