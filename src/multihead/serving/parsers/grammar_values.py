"""Grammar of argument values in formats that are no JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import InvalidInput
from ...tokenizers.response_values import schema_types
from .grammar_rules import Rules
from .json_text import to_json
from .literals import MARKED_KEY

NOTES = frozenset(("title", "description", "default", "examples", "nullable", "$comment", "deprecated", "readOnly"))
DEFINITIONS = ("$defs", "definitions")


def properties_of(tool: str, schema: Mapping[str, Any], names: re.Pattern[str]) -> list[tuple[str, Any, bool]]:
    """Return name, schema and necessity of each argument.

    Args:
        names: pattern of the names that the format can write.

    Raises:
        InvalidInput: a schema of more than properties, which formats without JSON cannot keep to.
    """
    known = {"type", "properties", "required", "additionalProperties", "strict", "$schema", *DEFINITIONS, *NOTES}
    check_keys(tool, "its arguments", schema, known)
    needed = set(schema.get("required") or ())
    found = dict(schema.get("properties") or {})
    if needed - set(found):
        raise unsupported(tool, f"required arguments without a schema ({', '.join(sorted(needed - set(found)))})")
    for name in found:
        if not names.fullmatch(name):
            raise unsupported(tool, f"an argument called {name!r}")
    shared = {name: schema[name] for name in DEFINITIONS if name in schema}
    return [(name, with_definitions(one, shared), name in needed) for name, one in found.items()]


def with_definitions(schema: Any, shared: Mapping[str, Any]) -> Any:
    return {**shared, **schema} if shared and isinstance(schema, dict) else schema


def raw_value(rules: Rules, tool: str, name: str, schema: Any, end: str) -> str:
    """Return the expression of a value without quotation marks, up to the text `end`, which it includes.

    Strings are any text, within `minLength` and `maxLength`; `enum` and `const` are kept; other types are JSON.
    """
    choices = choices_of(schema)
    if choices is not None:
        listed = [rules.literal((one if isinstance(one, str) else to_json(one)) + end) for one in choices]
        return rules.choice(listed)
    types = schema_types(schema)
    if "string" not in types:
        return f"{rules.json(schema)} {rules.literal(end)}"
    if types == ("string",):
        check_keys(tool, f"the argument {name!r}", schema, {"type", "minLength", "maxLength", *DEFINITIONS, *NOTES})
    return rules.until(end, schema.get("minLength", 0), schema.get("maxLength"))


def choices_of(schema: Any) -> list[Any] | None:
    """Return the values that a schema lists, None if it lists none."""
    if not isinstance(schema, dict):
        return None
    return [schema["const"]] if "const" in schema else schema.get("enum")


def marked_value(rules: Rules, tool: str, name: str, schema: Any, quotes: str) -> str:
    """Return the expression of a value in Gemma's notation: keys without quotation marks, strings between markers.

    Raises:
        InvalidInput: a schema of more than types, properties, items, enum and const.
    """
    where = f"the argument {name!r}"
    choices = choices_of(schema)
    if choices is not None:
        return rules.choice([marked_constant(rules, tool, one, quotes) for one in choices])
    if not isinstance(schema, dict) or not isinstance(schema.get("type"), str):
        raise unsupported(tool, f"{where} without one type")
    kind, mark = schema["type"], rules.literal(quotes)
    if kind == "string":
        check_keys(tool, where, schema, {"type", "minLength", "maxLength", *DEFINITIONS, *NOTES})
        return f"{mark} {rules.until(quotes, schema.get('minLength', 0), schema.get('maxLength'))}"
    if kind == "array":
        check_keys(tool, where, schema, {"type", "items", *DEFINITIONS, *NOTES})
        item = rules.rule(marked_value(rules, tool, name, schema.get("items"), quotes), "item")
        return rules.rule(f'"[" ({item} ("," {item})*)? "]"', "list")
    if kind == "object":
        return marked_object(rules, tool, schema, quotes)
    return rules.json(schema)


def marked_object(rules: Rules, tool: str, schema: Mapping[str, Any], quotes: str) -> str:
    """Return the expression of an object in Gemma's notation. Raises InvalidInput."""
    items = [
        (f"{rules.literal(f'{name}:')} {marked_value(rules, tool, name, one, quotes)}", needed)
        for name, one, needed in properties_of(tool, schema, MARKED_KEY)
    ]
    return rules.rule(f'"{{" {rules.listed(items, ",")} "}}"', "object")


def marked_constant(rules: Rules, tool: str, value: Any, quotes: str) -> str:
    """Return the expression of one value in Gemma's notation. Raises InvalidInput for lists and objects."""
    if isinstance(value, (dict, list)):
        raise unsupported(tool, "a list or object among the values of an enum")
    return rules.literal(f"{quotes}{value}{quotes}" if isinstance(value, str) else to_json(value))


def check_keys(tool: str, where: str, schema: Any, known: set[str]) -> None:
    """Raise InvalidInput for keywords of a schema that a format without JSON cannot keep to."""
    unknown = sorted(key for key in schema if key not in known)
    if unknown:
        raise unsupported(tool, f"{', '.join(unknown)} of {where}")


def unsupported(tool: str, what: str) -> InvalidInput:
    return InvalidInput(f"The tool {tool!r} cannot be constrained in this model's format of calls: it has {what}.")
