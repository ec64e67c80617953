"""JSON schemas whose objects have the properties that they name, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BY_NAME = ("properties", "patternProperties", "$defs", "definitions")  # keywords: name -> schema
SINGLE = ("items", "additionalProperties", "contains", "additionalItems", "propertyNames")
LISTS = ("anyOf", "oneOf", "prefixItems", "items")
# keywords under which several schemas hold for one object, so that none of them knows all its properties
JOINS = frozenset({"allOf", "if", "then", "else", "not", "dependentSchemas", "dependencies", "unevaluatedProperties",
                   "$dynamicRef", "$recursiveRef"})  # fmt: skip
BESIDE = frozenset({"$ref", "anyOf", "oneOf"})  # the same, where the schema has properties of its own too
# keywords that decide about other properties, or that may need some
DECIDES = frozenset({"additionalProperties", "patternProperties", "propertyNames", "minProperties",
                     "dependentRequired", "const", "enum"})  # fmt: skip


def close_objects(schema: Any) -> Any:
    """Return a schema that allows only the properties that its objects name, where it does not say otherwise.

    All its texts are texts of the schema. Small models would write properties without end; llama.cpp, Ollama and vLLM
    read schemas in this way too. A schema that puts one object together of several parts is returned as it is.
    """
    return schema if joins(schema) else closed(schema)


def joins(schema: Any) -> bool:
    """Return whether a schema, or one inside it, puts one object together of several parts."""
    if not isinstance(schema, Mapping):
        return False
    own = "properties" in schema or "required" in schema
    return bool(JOINS & set(schema)) or (own and bool(BESIDE & set(schema))) or any(map(joins, inner_schemas(schema)))


def inner_schemas(schema: Mapping[str, Any]) -> list[Any]:
    """Return the schemas directly inside a schema."""
    found: list[Any] = [schema[name] for name in SINGLE if name in schema]
    for name in BY_NAME:
        found += schema[name].values() if isinstance(schema.get(name), Mapping) else ()
    for name in LISTS:
        found += schema[name] if isinstance(schema.get(name), list) else ()
    return found


def closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    for name in SINGLE:
        if name in out:
            out[name] = closed(out[name])
    for name in BY_NAME:
        if isinstance(out.get(name), Mapping):
            out[name] = {key: closed(value) for key, value in out[name].items()}
    for name in LISTS:
        if isinstance(out.get(name), list):
            out[name] = [closed(value) for value in out[name]]
    if isinstance(out.get("properties"), Mapping) and not DECIDES & set(out):
        required = out.get("required")
        if not isinstance(required, list) or all(name in out["properties"] for name in required):
            out["additionalProperties"] = False
    return out
