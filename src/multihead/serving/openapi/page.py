"""A page of an OpenAPI document: no script, nothing from the network."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
code{font:0.9em ui-monospace,monospace}summary{cursor:pointer;padding:.2rem 0}details{border-bottom:1px solid #8884}
table{border-collapse:collapse;margin:.5rem 0 1rem}td,th{text-align:left;padding:.15rem .8rem .15rem 0;
vertical-align:top}.method{display:inline-block;width:4.5rem;font-weight:600}p{white-space:pre-line}
"""
DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{DIGEST}'; frame-ancestors 'none'; base-uri 'none'"


def page(document: dict[str, Any]) -> str:
    """Return the HTML page of a document."""
    info = document["info"]
    parts = "".join(
        entry(path, method, operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><h1>{title}</h1>'
        f'<p>{escape(info["description"])} The same for programs: <a href="openapi.json">openapi.json</a>.</p>{parts}'
    )


def entry(path: str, method: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    """Return one operation: its path, its summary, and the fields of its bodies."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    bodies = [resolve(each, document) for each in content.get("anyOf", [content])] if content else []
    head = f'<span class="method">{method.upper()}</span><code>{escape(path)}</code>'
    texts = [escape(operation.get("summary", "")), *(escape(body.get("description", "")) for body in bodies)]
    tables = "".join(table(body, document) for body in bodies)
    return f"<details><summary>{head}</summary><p>{'<br>'.join(filter(None, texts))}</p>{tables}</details>"


def table(schema: dict[str, Any], document: dict[str, Any]) -> str:
    """Return the fields of a body as a table."""
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' (required)' if name in required else ''}<td>"
        f"<code>{escape(kind(field, document))}</code><td>{escape(field.get('description', ''))}"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table><tr><th>Field<th>Type<th>{rows}</table>"


def kind(schema: dict[str, Any], document: dict[str, Any]) -> str:
    """Return the type of a field in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " | ".join(dict.fromkeys(kind(each, document) for each in schema[word]))
    if "enum" in schema:
        return " | ".join("null" if value is None else repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}), document)}"
    bounds = [f"{sign} {schema[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in schema]
    return " ".join([str(schema.get("type", "any")), *bounds])


def resolve(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that a reference names."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found
