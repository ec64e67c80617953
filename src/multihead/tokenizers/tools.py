"""Tools that chat templates offer a model: JSON schemas, or Python functions described as JSON schemas.

A function says its types in its signature and everything else in a docstring of Google's style.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import UnsupportedOption

SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
PLAIN = {**SCALARS, list: "array", tuple: "array", dict: "object"}
MEDIA = {"PIL.Image.Image": "image", "torch.Tensor": "audio"}
HEADINGS = ("Args:", "Returns:", "Raises:")
CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)
ENTRY = re.compile(r"([ \t]*)(\w+):(.*)")


def schemas(tools: Sequence[Any] | None) -> list[Any] | None:
    """Convert tools to JSON schemas. Raises UnsupportedOption for a value that cannot be converted."""
    if tools is None:
        return None
    if isinstance(tools, (str, Mapping)) or not hasattr(tools, "__iter__"):
        raise UnsupportedOption(f"tools is a list of functions or JSON schemas, not {type(tools).__name__}.")
    return [schema(tool) for tool in tools]


def schema(tool: Any) -> Any:
    """Convert a function to a JSON schema; return a schema unchanged."""
    if isinstance(tool, Mapping):
        return tool
    if inspect.isfunction(tool) or inspect.ismethod(tool):
        return describe_function(tool)
    raise UnsupportedOption(
        f"A tool is a JSON schema (a dict) or a function with types and a docstring, not {type(tool).__name__}."
    )


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Describe a function: name, description, parameters and result.

    Raises:
        UnsupportedOption: no docstring, a parameter without a type or a description, or a type that JSON does not have.
    """
    name, doc = function.__name__, (inspect.getdoc(function) or "").strip()
    if not doc:
        raise UnsupportedOption(f"The tool {name} has no docstring; it tells the model what the function does.")
    documented = argument_docs(doc)
    hints, required = parameters(function)
    result = hints.pop("return", None)
    properties = {}
    for argument, hint in hints.items():
        if argument not in documented:
            raise UnsupportedOption(f"The docstring of the tool {name} does not describe {argument!r} under Args:.")
        properties[argument] = add_description(
            type_schema(hint, f"{argument!r} of the tool {name}"), documented[argument], name
        )
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        found["required"] = required
    out: dict[str, Any] = {"name": name, "description": text_before(doc, HEADINGS).strip(), "parameters": found}
    try:
        given = None if result is None else type_schema(result, name)
    except UnsupportedOption:  # models do not write the result, so it may be of any type
        given = None
    if given is not None:
        words = docstring_section(doc, r"\n\s*Returns:\n\s*", HEADINGS[2:])
        out["return"] = given if words is None else {**given, "description": words.strip()}
    return {"type": "function", "function": out}


def parameters(function: Callable[..., Any]) -> tuple[dict[str, Any], list[str]]:
    """Return name -> type of each parameter (the result is `return`), and the names without a default."""
    found, name = inspect.signature(function).parameters, function.__name__
    first = next(iter(found), None)
    own = first if first in ("self", "cls") and found[first].annotation is inspect.Parameter.empty else None
    bare = next((p for p, one in found.items() if p != own and one.annotation is inspect.Parameter.empty), None)
    if bare is not None:
        raise UnsupportedOption(
            f"The parameter {bare!r} of the tool {name} has no type: write {bare}: str or the like."
        )
    try:
        hints = get_type_hints(function)
    except Exception as error:  # whatever a type in quotation marks stumbles over
        raise UnsupportedOption(f"The types of the tool {name} cannot be read: {error}.") from error
    hints = {argument: hint for argument, hint in hints.items() if argument != own}
    return hints, [p for p, one in found.items() if p != own and one.default is inspect.Parameter.empty]


def type_schema(hint: Any, where: str) -> dict[str, Any]:
    """Convert a type to a JSON schema. Raises UnsupportedOption for a type that JSON does not have."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is None and isinstance(hint, type) and issubclass(hint, Enum):
        return literal_schema([member.value for member in hint], where)
    if origin is None:
        return basic_schema(hint, where)
    if origin is Union or origin is types.UnionType:
        return union_schema(args, where)
    if origin is Literal:
        return literal_schema(list(args), where)
    if origin is list:
        return {"type": "array", **({"items": type_schema(args[0], where)} if args else {})}
    if origin is tuple and len(args) != 1 and ... not in args:
        return {"type": "array", **({"prefixItems": [type_schema(one, where) for one in args]} if args else {})}
    if origin is dict:
        return {"type": "object", **({"additionalProperties": type_schema(args[1], where)} if len(args) == 2 else {})}
    raise unknown(hint, where)


def basic_schema(hint: Any, where: str) -> dict[str, Any]:
    """Convert a type without arguments."""
    if hint is Any:
        return {}
    try:
        kind = PLAIN.get(hint)
    except TypeError:  # unhashable
        kind = None
    if kind is None and isinstance(hint, type):
        kind = MEDIA.get(f"{hint.__module__}.{hint.__qualname__}")
    if kind is None:
        raise unknown(hint, where)
    return {"type": kind}


def union_schema(args: Sequence[Any], where: str) -> dict[str, Any]:
    """Convert a union: a list of names where possible; `nullable` where None is a member."""
    kinds = [type_schema(one, where) for one in args if one is not type(None)]
    plain = all(kind.keys() == {"type"} and isinstance(kind["type"], str) for kind in kinds)
    found: dict[str, Any] = {"anyOf": kinds}
    if len(kinds) == 1:
        found = kinds[0]
    elif plain:
        names = sorted({kind["type"] for kind in kinds})
        found = {"type": names[0] if len(names) == 1 else names}
    return {**found, "nullable": True} if type(None) in args else found


def literal_schema(values: list[Any], where: str) -> dict[str, Any]:
    """Convert a Literal to an enum."""
    if not values or any(type(value) not in SCALARS for value in values):
        raise UnsupportedOption(f"The type of {where} must list numbers, strings, truth values or None, not {values}.")
    kinds = list(dict.fromkeys(SCALARS[type(value)] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


def unknown(hint: Any, where: str) -> UnsupportedOption:
    return UnsupportedOption(
        f"The type {hint!r} of {where} has no JSON schema here. Use int, float, str, bool, list, tuple, dict, Enum, "
        "Literal, and unions of these, or pass the tool's schema as a dict."
    )


def add_description(kind: dict[str, Any], words: str, name: str) -> dict[str, Any]:
    """Add the description to a type, and the choices at its end: `(choices: ["a", "b"])`."""
    match = CHOICES.search(words)
    if match is None:
        return {**kind, "description": words}
    try:
        choices = json.loads(match[1])
    except ValueError as error:
        raise UnsupportedOption(
            f"The docstring of the tool {name} has choices that are no JSON: {match[0]}."
        ) from error
    values = [choice.strip() if isinstance(choice, str) else choice for choice in choices]
    return {**kind, "enum": values, "description": words[: match.start()].strip()}


def text_before(text: str, marks: Sequence[str]) -> str:
    """Return the text before the first of the marks."""
    return text[: min((place for mark in marks if (place := text.find(mark)) >= 0), default=len(text))]


def docstring_section(doc: str, heading: str, marks: Sequence[str]) -> str | None:
    """Return the text between a heading and the next mark; None without the heading."""
    match = re.search(heading, doc)
    return None if match is None else text_before(doc[match.end() :], marks)


def argument_docs(doc: str) -> dict[str, str]:
    """Return name -> description from the lines under `Args:`."""
    lines = [
        line
        for line in (docstring_section(doc, r"\n\s*Args:\n", HEADINGS[1:]) or "").rstrip().split("\n")
        if line.strip()
    ]
    return {name: " ".join(line.strip() for line in words if line.strip()) for name, words in group_lines(lines)}


def group_lines(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Group names with their lines: those up to the next name that is not indented deeper."""
    name, indent, words = "", "", [""]
    for line in lines:
        match = ENTRY.fullmatch(line)
        deeper = line.startswith((f"{indent} ", f"{indent}\t"))
        waits = bool(name) and not "".join(words).strip()  # a name alone on its line
        if match is None or (name and (deeper or waits)):
            words.append(line)
            continue
        if name:
            yield name, words
        indent, name, words = match[1], match[2], [match[3]]
    if name:
        yield name, words
