"""The OpenAPI document (3.1) of an application."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from ..._version import __version__
from ..body import Body
from ..errors import ApiError
from ..routing import ApiRoute, ErrorShape
from .answers import ANSWERS, OTHER_MEDIA, schema_of

REFS = "#/components/schemas/{model}"
CONVERTER = re.compile(r":\w+}")  # Starlette's {name:path} is {name} in OpenAPI
STREAMS = {"text/event-stream": {"schema": {"type": "string"}}}
LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}
INTRODUCTION = (
    "Every body refuses fields that it does not know. A field that is not computed is an error (400) that names it. "
    "Answers may have more fields than are listed."
)


def document(routes: Sequence[BaseRoute], *, root_path: str = "", with_keys: bool = False) -> dict[str, Any]:
    """Return the OpenAPI document of routes."""
    described = [route for route in routes if isinstance(route, ApiRoute)]
    schemas, names = body_schemas(body for route in described for body in route.bodies)
    paths: dict[str, Any] = {}
    for route in described:
        path = CONVERTER.sub("}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = operation(route, path, method, names)
    keys: dict[str, Any] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "api_key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "multihead", "version": __version__, "description": INTRODUCTION},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": keys} if with_keys else {})},
        **({"security": [{name: []} for name in keys]} if with_keys else {}),
    }


def body_schemas(bodies: Iterable[type[Body]]) -> tuple[dict[str, Any], dict[type[Body], str]]:
    """Return the schemas of bodies by their names, and the name of each body."""
    kinds = list(dict.fromkeys(bodies))
    refs, found = models_json_schema([(kind, "validation") for kind in kinds], ref_template=REFS)
    schemas: dict[str, Any] = found.get("$defs", {})
    names = {kind: refs[kind, "validation"]["$ref"].rpartition("/")[2] for kind in kinds}
    for kind, name in names.items():
        # accepted where they change nothing
        neutral = {field: {"enum": [*values, None]} for field, values in kind.NEUTRAL.items()}
        schemas[name]["properties"] = {**schemas[name].get("properties", {}), **neutral}
        if kind.NOT_COMPUTED:
            refused = "\n".join(f"- {field}: {why}" for field, why in kind.NOT_COMPUTED.items())
            schemas[name]["description"] = f"{schemas[name].get('description', '')}\n\nRefused:\n{refused}".strip()
    return schemas, names


def operation(route: ApiRoute, path: str, method: str, names: dict[type[Body], str]) -> dict[str, Any]:
    """Return the description of one method of a path."""
    streams = {}
    if any("stream" in body.model_fields for body in route.bodies):
        streams = LINES if path.startswith("/api/") else STREAMS
    media = OTHER_MEDIA.get(path)
    answer = {media: {"schema": {"type": "string"}}} if media else json_content(schema_of(ANSWERS.get(path)))
    errors = [error_schema(each.shape) for each in (route.others or [route])]
    error = {"description": "An error.", "content": json_content(errors[0] if len(errors) == 1 else {"anyOf": errors})}
    found: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', path)}".rstrip("_"),
        "tags": [path.strip("/").partition("/")[0] if not path.startswith("/v1/") else "v1"],
        "responses": {"200": {"description": "The answer.", "content": {**answer, **streams}},
                      "4XX": error, "5XX": error},
    }  # fmt: skip
    if route.summary:
        found["summary"] = route.summary
    if parameters := re.findall(r"{(\w+)}", path):
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters
        ]
    if route.bodies:
        refs = [{"$ref": REFS.format(model=names[body])} for body in route.bodies]
        found["requestBody"] = {
            "required": True, "content": json_content(refs[0] if len(refs) == 1 else {"anyOf": refs}),
        }  # fmt: skip
    return found


def json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def error_schema(shape: ErrorShape) -> dict[str, Any]:
    """Return the schema of the errors of an interface, read from two of them: of a field, and of none."""
    errors = (ApiError("Text."), ApiError("Text.", param="field"))
    plain, of_field = (schema_of(json.loads(bytes(shape(error).body))) for error in errors)
    # what is null in one of them may be anything
    kinds = [(own.get("type"), of_field["properties"][name].get("type")) for name, own in plain["properties"].items()]
    differ = any(first and second and first != second for first, second in kinds)
    return {"anyOf": [plain, of_field]} if differ else plain
