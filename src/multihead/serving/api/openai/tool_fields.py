"""Tools and their choice in the fields of chat completions, and in those of the older functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ApiError
from ...generation.tools import Tool, ToolChoice, check_function, check_tools, function_tool, offered

CHOICES = ("none", "auto", "required")


def read_tools(tools: Sequence[Mapping[str, Any]] | None, functions: Sequence[Mapping[str, Any]] | None) -> list[Tool]:
    """Return the tools of a request. Raises ApiError."""
    if functions is not None:
        found = [function_tool(one, f"functions[{number}]") for number, one in enumerate(functions)]
    else:
        found = [read_tool(one, f"tools[{number}]") for number, one in enumerate(tools or ())]
    check_tools(found, "tools" if functions is None else "functions")
    return found


def read_tool(given: Mapping[str, Any], where: str) -> Tool:
    """Return `{"type": "function", "function": {...}}`. Raises ApiError."""
    check_function(given, where)
    if other := sorted(set(given) - {"type", "function"}):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    return function_tool(given.get("function"), f"{where}.function")


def read_choice(
    tools: list[Tool], choice: str | Mapping[str, Any] | None, older: str | Mapping[str, Any] | None
) -> tuple[list[Tool], ToolChoice]:
    """Return the tools that may be called, and whether one must be. Raises ApiError.

    Args:
        choice: `tool_choice`. older: `function_call`.
    """
    if older is not None:
        name = "function_call"
        if isinstance(older, str) and older in ("none", "auto"):
            return tools, ToolChoice(older)
        if isinstance(older, Mapping) and set(older) == {"name"}:
            return offered(tools, [str(older["name"])], name), ToolChoice("required", str(older["name"]))
        raise ApiError('function_call must be none, auto or {"name": ...}.', param=name)
    if choice is None:
        return tools, ToolChoice()
    if isinstance(choice, str):
        if choice not in CHOICES:
            raise ApiError(
                f"tool_choice is {choice!r:.80}; it can be {', '.join(CHOICES)}, or an object.", param="tool_choice"
            )
        if choice == "required" and not tools:
            raise ApiError("tool_choice demands a call, and there are no tools.", param="tool_choice")
        return tools, ToolChoice(choice)
    if choice.get("type") == "allowed_tools":
        return allowed_tools(tools, choice.get("allowed_tools"))
    name = called_name(choice, "tool_choice")
    return offered(tools, [name], "tool_choice"), ToolChoice("required", name)


def allowed_tools(tools: list[Tool], given: Any) -> tuple[list[Tool], ToolChoice]:
    """Return the tools of `{"mode", "tools"}`. Raises ApiError."""
    where = "tool_choice.allowed_tools"
    listed = given.get("tools") if isinstance(given, Mapping) else None
    if not isinstance(listed, list) or not listed or given.get("mode") not in ("auto", "required"):
        raise ApiError(f"{where} must have a mode, auto or required, and tools.", param=where)
    names = [called_name(one, f"{where}.tools[{number}]") for number, one in enumerate(listed)]
    return offered(tools, names, where), ToolChoice(given["mode"])


def called_name(given: Any, where: str) -> str:
    """Return the name in `{"type": "function", "function": {"name"}}`. Raises ApiError."""
    function = given.get("function") if isinstance(given, Mapping) and given.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ApiError(f'{where} must be {{"type": "function", "function": {{"name": ...}}}}.', param=where)
    return str(function["name"])
