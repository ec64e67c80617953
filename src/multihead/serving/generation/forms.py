"""The form of a text: JSON, a schema, a pattern, choices or a grammar, as the fields of GenerationConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ApiError
from ..parsers.closed_objects import close_objects

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
# A grammar is compiled in a time that grows with the square of the properties of an object and of the alternatives at
# one place, and no client that goes away ends it: these take about a second.
MAX_PROPERTIES = 2000  # of an object; of several, the squares are added
MAX_CHOICES = 10_000
MAX_FORM_TEXT = 64 << 10  # characters of a pattern or a grammar


def response_form(given: Mapping[str, Any] | None, name: str = "response_format") -> dict[str, Any]:
    """Return what OpenAI's `response_format` asks for, also with llama.cpp's schema beside json_object.

    Raises:
        ApiError: anything else.
    """
    if given is None:
        return {}
    kind = given.get("type")
    known = {"text": {"type"}, "json_object": {"type", "schema"}, "json_schema": {"type", "json_schema"}}
    if not isinstance(kind, str) or kind not in known:
        raise ApiError(
            f"{name}.type is {kind!r:.80}; it can be text, json_object or json_schema.", param=f"{name}.type"
        )
    if other := sorted(set(given) - known[kind]):
        raise ApiError(f"{name} has no field {other[0]!r:.80}.", param=f"{name}.{other[0]}", code="unknown_parameter")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"json_schema": form_schema(given.get("schema"), f"{name}.schema")}
    return {"json_schema": named_schema(given.get("json_schema"), f"{name}.json_schema")}


def named_schema(given: Any, name: str) -> Any:
    """Return the schema of `{"name", "schema", "strict", "description"}`. All are followed strictly."""
    if not isinstance(given, Mapping):
        raise ApiError(f"{name} must be an object with a name and a schema.", param=name)
    if other := sorted(set(given) - {"name", "schema", "strict", "description"}):
        raise ApiError(f"{name} has no field {other[0]!r:.80}.", param=f"{name}.{other[0]}", code="unknown_parameter")
    if not isinstance(given.get("name"), str):
        raise ApiError(f"{name}.name must be a text.", param=f"{name}.name")
    return form_schema(given.get("schema"), f"{name}.schema")


def form_schema(given: Any, name: str) -> Any:
    """Return the schema of an answer, whose objects have only the properties that they name. Raises ApiError."""
    return close_objects(checked_schema(given, name))


def checked_schema(given: Any, name: str) -> Any:
    """Return a JSON schema; any object for None. Raises ApiError for what is none."""
    if given is None:
        return dict(ANY_OBJECT)
    if not isinstance(given, (Mapping, bool)):
        raise ApiError(f"{name} must be a JSON schema, an object.", param=name)
    check_properties([given], name)
    return given


def check_properties(schemas: Sequence[Any], name: str) -> None:
    """Raise ApiError for schemas with too many properties, which together take too long to compile."""
    if sum(map(count_squares, schemas)) > MAX_PROPERTIES**2:
        raise ApiError(
            f"{name} has too many properties: an object may have {MAX_PROPERTIES}, several objects fewer each.",
            param=name,
        )


def count_squares(schema: Any) -> int:
    """Return the sum of the squares of the numbers of properties, over all objects of a schema."""
    total, left = 0, [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            own = part.get("properties")
            total += len(own) ** 2 if isinstance(own, Mapping) else 0
            left += part.values()
        elif isinstance(part, list):
            left += part
    return total


def structured_form(
    given: Mapping[str, Any] | None, name: str = "structured_outputs", join: str = "."
) -> dict[str, Any]:
    """Return what vLLM's `structured_outputs` asks for: one of json, json_object, regex, choice, grammar.

    Args:
        name, join: begin the names of fields in errors.

    Raises:
        ApiError: none or several of them, or anything else.
    """
    asked = {key: value for key, value in (given or {}).items() if value is not None and value is not False}
    if not asked:
        return {}
    if len(asked) > 1:
        first, second, *_ = asked
        raise ApiError(f"{name}: {first} and {second} are two forms of one text; give one.", param=name)
    kind, value = next(iter(asked.items()))
    field = f"{name}{join}{kind}"
    if kind == "json_object":
        return {"json_schema": dict(ANY_OBJECT)}
    if kind == "json":
        return {"json_schema": parsed_schema(value, field)}
    if kind == "choice":
        return {"grammar": choice_grammar(value, field)}
    if kind in ("regex", "grammar"):
        if not isinstance(value, str):
            raise ApiError(f"{field} must be a text.", param=field)
        if len(value) > MAX_FORM_TEXT:
            raise ApiError(f"{field} has {len(value)} characters; {MAX_FORM_TEXT} are read.", param=field)
        return {kind: value}
    raise ApiError(
        f"{field} is not computed here; it can be json, json_object, regex, choice or grammar (Lark's or GBNF).",
        param=field, code="unsupported_parameter",
    )  # fmt: skip


def parsed_schema(value: Any, name: str) -> Any:
    """Return a JSON schema that may be given as text. Raises ApiError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ApiError(f"{name} is a text that is not JSON.", param=name) from None
    return form_schema(value, name)


def choice_grammar(value: Any, name: str) -> str:
    """Return the grammar of one of several texts. Raises ApiError."""
    texts = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ApiError(f"{name} must be a list of texts, none of them empty.", param=name)
    if len(texts) > MAX_CHOICES:
        raise ApiError(f"{name} has {len(texts)} texts; at most {MAX_CHOICES} are allowed.", param=name)
    return "start: " + " | ".join(json.dumps(text) for text in texts)


def one_form(forms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return `form` and `form_name` of the one form that a request asks for. Raises ApiError for two.

    Args:
        forms: field of the request -> its form, empty for none.
    """
    asked = {name: form for name, form in forms.items() if form}
    if len(asked) > 1:
        first, second, *_ = asked
        raise ApiError(f"{first} and {second} are two forms of one text; give one of them.", param=second)
    name, form = next(iter(asked.items()), ("", {}))
    return {"form": dict(form), "form_name": name}
