"""The tools of a request: what their parameters may be, for formats that write values without a type."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...tokenizers.response_values import schema_types
from .json_text import to_json
from .literals import PythonValues
from .source import NotACall, Source


class Tools:
    """The tools of a request, by name.

    Args:
        tools: `{"type": "function", "function": {"name": ..., "parameters": ...}}`, or what is inside "function".
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]] | None = None) -> None:
        functions = [function_of(tool) for tool in tools or ()]
        self.schemas: dict[str, dict[str, Any]] = {
            str(function.get("name")): parameters_of(function) for function in functions
        }

    def types(self, name: str, key: str) -> tuple[str, ...]:
        """Return the JSON types of a parameter; ("string",) for one that no schema describes, () for any type."""
        properties = self.schemas.get(name, {}).get("properties")
        if not isinstance(properties, dict) or key not in properties:
            return ("string",)
        schema = properties[key]
        choices = schema.get("enum") if isinstance(schema, dict) else None
        listed = choices if isinstance(choices, list) else ()
        return schema_types(schema) or tuple(dict.fromkeys(JSON_TYPES.get(type(value), "string") for value in listed))


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = tool.get("function")
    return inner if isinstance(inner, Mapping) else tool


def parameters_of(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a function's arguments; an object without properties where none is given."""
    given = function.get("parameters")
    return dict(given) if isinstance(given, Mapping) else {"type": "object", "properties": {}}


JSON_TYPES = {
    str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", dict: "object", list: "array",
}  # fmt: skip


def typed_value(text: str, types: Sequence[str]) -> str:
    """Return a value that a model wrote without a type as JSON: of the first type that fits, else as a string."""
    bare = text.strip()
    for kind in types or ("any",):
        found = READERS[kind](bare) if kind in READERS else None
        if found is not None:
            return found
    return to_json(text)


def integer(text: str) -> str | None:
    value = literal(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    whole = isinstance(value, int) or (math.isfinite(value) and value.is_integer())
    return to_json(int(value)) if whole else None


def number(text: str) -> str | None:
    value = literal(text)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return to_json(value) if fits else None


def boolean(text: str) -> str | None:
    return {"true": "true", "1": "true", "false": "false", "0": "false"}.get(text.lower())


def null(text: str) -> str | None:
    return "null" if text.lower() in ("null", "none") else None


def structure(kind: type) -> Callable[[str], str | None]:
    """Return the reader of objects (dict) or arrays (list)."""

    def read(text: str) -> str | None:
        value = literal(text)
        if not isinstance(value, kind):
            return None
        return any_value(text) or to_json(value)

    return read


def any_value(text: str) -> str | None:
    """Return JSON as it is; None for other text."""
    try:
        json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return text


READERS: dict[str, Callable[[str], str | None]] = {
    "integer": integer, "number": number, "boolean": boolean, "null": null, "any": any_value,
    "object": structure(dict), "array": structure(list),
}  # fmt: skip


def literal(text: str) -> Any:
    """Return the value of JSON, or of a Python literal, which some templates write; None for other text."""
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        pass
    parts: list[str] = []
    source = Source()
    source.add(text)
    source.ended = True
    try:
        for _ in PythonValues(source, parts.append).value():
            pass
        return None if source.rest else json.loads("".join(parts))
    except (NotACall, ValueError):  # ValueError: more digits than Python reads
        return None


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
