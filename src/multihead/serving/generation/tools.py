"""Tools that a request offers, and which of them the model may or must call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ApiError
from .forms import check_properties, checked_schema

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
MAX_TOOLS = 256
Tool = dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters", "strict"}}


@dataclass(frozen=True)
class ToolChoice:
    """Choice of the tools that the model may or must call.

    Args:
        mode: "none", "auto" or "required". name: the one tool that must be called; empty for any.
    """

    mode: str = "auto"
    name: str = ""


def check_function(given: Mapping[str, Any], where: str) -> None:
    """Raise ApiError for a tool that is no function, such as one that a server would run."""
    if given.get("type") != "function":
        raise ApiError(
            f"{where}.type is {given.get('type')!r:.80}; only functions can be called.", param=f"{where}.type",
            code="unsupported_parameter",
        )  # fmt: skip


def function_tool(given: Any, where: str) -> Tool:
    """Return a function `{"name", "description", "parameters", "strict"}` as a tool. Raises ApiError."""
    if not isinstance(given, Mapping):
        raise ApiError(f"{where} must be an object with a name and parameters.", param=where)
    if other := sorted(set(given) - {"name", "description", "parameters", "strict"}):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    name, text, strict = given.get("name"), given.get("description"), given.get("strict")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ApiError(
            f"{where}.name must be 1 to 128 letters, digits, dots, colons, underscores and hyphens.",
            param=f"{where}.name",
        )
    if text is not None and not isinstance(text, str):
        raise ApiError(f"{where}.description must be a text.", param=f"{where}.description")
    if strict is not None and not isinstance(strict, bool):
        raise ApiError(f"{where}.strict must be true or false.", param=f"{where}.strict")
    parameters = given.get("parameters")
    function: dict[str, Any] = {"name": name}
    if text is not None:
        function["description"] = text
    if parameters is not None:
        function["parameters"] = checked_schema(parameters, f"{where}.parameters")
    else:
        function["parameters"] = {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def check_tools(tools: Sequence[Tool], name: str) -> None:
    """Raise ApiError for too many tools, or two with one name."""
    if len(tools) > MAX_TOOLS:
        raise ApiError(f"{name} has {len(tools)} tools; at most {MAX_TOOLS} are allowed.", param=name)
    check_properties([tool["function"]["parameters"] for tool in tools], name)
    names = names_of(tools)
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise ApiError(f"{name}: two tools are called {twice!r}.", param=name)


def names_of(tools: Sequence[Tool]) -> list[str]:
    return [str(tool["function"]["name"]) for tool in tools]


def offered(tools: Sequence[Tool], names: Sequence[str], where: str) -> list[Tool]:
    """Return the tools of some names. Raises ApiError for a name that is none."""
    known = dict(zip(names_of(tools), tools, strict=True))
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        raise ApiError(f"{where} names the tool {missing!r:.80}, which is not among the tools.", param=where)
    return [known[name] for name in names]
