"""Values of the fields of a response template: JSON and its dialects, tags, lines; types from the tools' schemas."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InvalidInput, describe_error
from .response_field import ResponseField, regex_library

PLACEHOLDER = re.compile(r"\{(\w+(?:\.\w+)*)\}")
UNQUOTED_KEY = re.compile(r"(?<=[{,])(\w+):")
Arguments = Mapping[str, Any]


def read_text(text: str, options: Arguments) -> str:
    return text.strip() if options.get("strip", True) else text


def read_integer(text: str, options: Arguments) -> int:
    return int(read_text(text, options))


def read_float(text: str, options: Arguments) -> float:
    return float(read_text(text, options))


def read_bool(text: str, options: Arguments) -> bool:
    return read_text(text, options).lower() in ("true", "1")


def read_json(text: str, options: Arguments) -> Any:
    """Read JSON; options: `unquoted_keys`, `string_delims` (pairs of markers around strings), `allow_non_json`."""
    pairs = options.get("string_delims") or []
    try:
        return json.loads(to_plain_json(text, pairs, bool(options.get("unquoted_keys"))))
    except ValueError:
        if options.get("allow_non_json"):
            return read_text(text, options)
        raise


def to_plain_json(text: str, pairs: Sequence[Sequence[str]], unquoted_keys: bool) -> str:
    """Return JSON of a dialect as JSON: strings between other markers, keys without quotation marks."""
    parts = [(False, text)]  # (is a string, text)
    for begin, end in pairs:
        pattern = re.compile(f"{re.escape(begin)}(.*?){re.escape(end)}", re.DOTALL)
        divided = []
        for is_string, part in parts:
            pieces = [part] if is_string else pattern.split(part)
            divided += [(is_string or place % 2 == 1, piece) for place, piece in enumerate(pieces)]
        parts = divided
    return "".join(
        json.dumps(part) if is_string else UNQUOTED_KEY.sub(r'"\1":', part) if unquoted_keys else part
        for is_string, part in parts
    )


def read_tags(text: str, options: Arguments) -> dict[str, Any]:
    """Read tags by a `tag_pattern` with the groups `key` and `value`; `merge_duplicates` makes lists of equal keys."""
    regex = regex_library()
    pattern = options.get("tag_pattern")
    if not isinstance(pattern, str):
        raise ValueError("xml-inline needs a tag_pattern")
    found: dict[str, Any] = {}
    for match in regex.finditer(pattern, text, flags=regex.DOTALL):
        groups = match.groupdict()
        key = groups.get("key")
        if key is None:
            raise ValueError(f"the tag_pattern {pattern!r} has no group called key")
        value = read_inner(groups.get("value", ""), options)
        if key in found and options.get("merge_duplicates"):
            known = found[key] if isinstance(found[key], list) else [found[key]]
            found[key] = [*known, value]
        else:
            found[key] = value
    return found


def read_lines(text: str, options: Arguments) -> dict[str, Any]:
    """Read lines of `key: value`; options: `line_sep`, `kv_sep`."""
    separator = options.get("kv_sep", ":")
    found = {}
    for line in text.split(options.get("line_sep", "\n")):
        key, colon, value = read_text(line, options).partition(separator)
        if colon:
            found[read_text(key, options)] = read_inner(read_text(value, options), options)
    return found


def read_inner(text: Any, options: Arguments) -> Any:
    """Read a value by the option `value_parser`, `{"name": ..., "args": ...}`; it stays text without."""
    inner = options.get("value_parser")
    return text if inner is None else read_content(text, inner.get("name", "text"), inner.get("args", {}))


CONTENT_KINDS: dict[str, Callable[[str, Arguments], Any]] = {
    "text": read_text, "int": read_integer, "float": read_float, "bool": read_bool, "json": read_json,
    "xml-inline": read_tags, "kv-lines": read_lines,
}  # fmt: skip
PLAIN_KINDS = frozenset(("text", "int", "float", "bool"))  # each piece of the text is a piece of the value


def read_content(text: str, kind: str, options: Arguments) -> Any:
    return CONTENT_KINDS[kind](text, options)


def field_value(field: ResponseField, body: str, groups: Mapping[str, str], tools: Mapping[str, Any]) -> Any:
    """Return the value of a field.

    Args:
        body: text between its markers. groups: named groups of the opening pattern. tools: name -> properties.

    Raises:
        InvalidInput: text that is none of the field's content.
    """
    try:
        value = read_content(body, field.content, field.content_args)
        if field.transform is not None:
            value = transformed(field, value, groups)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            f"The model wrote {body[:200]!r} for {field.name!r}, which the response_template cannot read: "
            f"{describe_error(error)}."
        ) from error
    return with_types(value, tools) if tools else value


def transformed(field: ResponseField, value: Any, groups: Mapping[str, str]) -> Any:
    """Apply a field's transform to its value, or to each element of it. Raises ValueError."""
    if not field.transform_each:
        return fill(field.transform, {**groups, "content": value})
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("transform_each needs a list of objects")
    return [fill(field.transform, {**groups, **item}) for item in value]


def fill(transform: Any, scope: Mapping[str, Any]) -> Any:
    """Replace the names in braces of a transform: `{content.name}` is an entry of `content`. Raises ValueError."""
    if isinstance(transform, dict):
        return {key: fill(value, scope) for key, value in transform.items()}
    if isinstance(transform, list):
        return [fill(value, scope) for value in transform]
    match = PLACEHOLDER.fullmatch(transform) if isinstance(transform, str) else None
    if match is None:
        return transform
    found: Any = scope
    for key in match[1].split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise ValueError(f"there is no {match[1]!r}")
        found = found[key]
    return found


def check_transform(transform: Any) -> str | None:
    """Return a text of a transform that mixes names in braces with other text, None if there is none."""
    if isinstance(transform, (dict, list)):
        parts = transform.values() if isinstance(transform, dict) else transform
        return next((found for part in parts if (found := check_transform(part)) is not None), None)
    mixed = isinstance(transform, str) and PLACEHOLDER.search(transform) and not PLACEHOLDER.fullmatch(transform)
    return transform if mixed else None


def schema_types(schema: Any) -> tuple[str, ...]:
    """Return the types that a schema names, in its order; () for a schema that names none."""
    if not isinstance(schema, dict):
        return ()
    given = schema.get("type")
    found = [given] if isinstance(given, str) else [one for one in given or () if isinstance(one, str)]
    for union in ("anyOf", "oneOf"):
        for one in schema.get(union) or ():
            found += schema_types(one)
    if schema.get("nullable"):  # as `tools.schemas` writes it
        found.append("null")
    return tuple(dict.fromkeys(found))


def with_types(value: Any, tools: Mapping[str, Any]) -> Any:
    """Give the arguments of calls, which are text, the types of the tools' schemas."""
    if isinstance(value, list):
        return [with_types(item, tools) for item in value]
    call = value.get("function") if isinstance(value, dict) else None
    arguments = call.get("arguments") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(arguments, dict) or not isinstance(call.get("name"), str):
        return value
    properties = tools.get(call["name"]) or {}
    for key, argument in arguments.items():
        types = schema_types(properties.get(key))
        if not types:
            continue
        if isinstance(argument, str):
            arguments[key] = with_type(argument, types)
        elif isinstance(argument, list) and "array" not in types:
            arguments[key] = [with_type(item, types) if isinstance(item, str) else item for item in argument]
    return value


def with_type(text: str, types: Sequence[str]) -> Any:
    """Return the value that a text has in the first type that it fits, else the text."""
    for kind in types:
        try:
            found = TYPES[kind](text) if kind in TYPES else None
        except (ValueError, OverflowError, RecursionError):
            continue
        if found is not None:
            return None if kind == "null" else found
    return text


def to_integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        value = float(text)
        return int(value) if value.is_integer() else None


def to_number(text: str) -> float | None:
    value = float(text)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and "." not in text else value


def to_boolean(text: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower())


def to_null(text: str) -> bool | None:
    return True if text.strip() in ("null", "None") else None


def to_structure(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json.loads(text)
        return value if isinstance(value, kind) else None

    return read


TYPES: dict[str, Callable[[str], Any]] = {
    "integer": to_integer, "number": to_number, "boolean": to_boolean, "null": to_null,
    "object": to_structure(dict), "array": to_structure(list),
}  # fmt: skip
