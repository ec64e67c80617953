"""/openapi.json describes every route; any JSON that it allows, and any that it does not, gets a sound answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def test_errors_of_both_kinds_are_described(document: dict[str, Any]) -> None:
    answers = document["paths"]["/v1/systemone"]["post"]["responses"]["4XX"]["content"]["application/json"]["schema"]
    assert {each["properties"]["detail"]["type"] for each in answers["anyOf"]} == {"string", "array"}


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


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 10**9, -(10**9), 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, "", "a", "auto",
    "\ud800", "a" * 5000, [], [""], ["a", 1, None], [[1, 2], [3]], [[]], {}, {"type": "text"}, {"type": "json_schema"},
    {"a": {"a": {"a": [{}]}}}, [{"role": "user", "content": "a"}], [{"role": "tool"}], {"100000": 100}, [10**30],
]  # fmt: skip
GOOD = {
    "model": ["chat", "bert", "classifier", "none", "gpt-tiny"], "messages": [[{"role": "user", "content": "a"}]],
    "max_tokens": [1, 3], "prompt": ["a"], "input": ["a", ["a", "b"]], "inputs": ["a"], "documents": [["a", "b"]],
    "texts": [["a", "b"]], "query": ["a"], "text_1": ["a"], "text_2": ["b"], "tokens": [[5, 6]], "ids": [[5, 6]],
}  # fmt: skip


def test_odd_values_get_sound_answers(server: RunningServer, document: dict[str, Any]) -> None:
    """Fields with values of every wrong kind: no error of the server, each error in the shape of its interface."""
    schemas = document["components"]["schemas"]
    operations = {}
    for path, methods in document["paths"].items():
        if "requestBody" in methods.get("post", {}) and not path.startswith("/admin"):
            content = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            kinds = [each["$ref"].rpartition("/")[2] for each in content.get("anyOf", [content])]
            operations[path] = sorted({name for kind in kinds for name in schemas[kind]["properties"]})
    assert len(operations) > 15

    @st.composite
    def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
        path = draw(st.sampled_from(sorted(operations)))
        names = operations[path]
        body = {name: draw(st.sampled_from(GOOD[name])) for name in names if name in GOOD}
        for name in draw(st.lists(st.sampled_from([*names, "unknown"]), max_size=3)):
            body[name] = draw(st.sampled_from(ODD))
        return path, body

    @settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(requests())
    def check(case: tuple[str, dict[str, Any]]) -> None:
        path, body = case
        place = path.replace("{name}", "bert").replace("{task}", "fill-mask")
        answer = http.post(f"{server.url}{place}", content=json.dumps(body).encode())
        assert answer.status_code < 500, (case, answer.text)
        if answer.status_code != 200:
            check_shape(answer.json(), document["paths"][path]["post"]["responses"]["4XX"], case)

    with httpx.Client(timeout=60) as http:
        check()
    assert server.get("/ready").status_code == 200


def check_shape(error: Any, response: dict[str, Any], case: Any) -> None:
    schema = response["content"]["application/json"]["schema"]
    kinds = schema.get("anyOf", [schema])
    assert any(set(kind["required"]) <= set(error) for kind in kinds), (case, error)
    assert "Traceback" not in json.dumps(error), (case, error)


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"1", b'"text"', b"{", b"\xff\xfe", b'{"a":' * 10_000, b"[" * 100_000, b'{"model": NaN}',
     b'{"model":"chat","model":"bert"}', b"\x00" * 100, b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_bodies_that_are_no_objects_are_refused(server: RunningServer, document: dict[str, Any], raw: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/messages", "/rerank", "/tokenize", "/embed", "/api/embed"):
        answer = server.post(path, raw)
        assert 400 <= answer.status_code < 500, (path, answer.text)
        check_shape(answer.json(), document["paths"][path]["post"]["responses"]["4XX"], path)
