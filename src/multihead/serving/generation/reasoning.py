"""Reasoning: how much of it a request asks for, as variables of the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ApiError

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SWITCH = "enable_thinking"  # of Qwen3 and most others


def reasoning_variables(
    template: str, effort: str | None, variables: Mapping[str, Any], name: str = "reasoning_effort"
) -> dict[str, Any]:
    """Return the variables of a chat template with the effort of reasoning.

    A template that knows no efforts but a switch takes "none" as off and all others as on.

    Args:
        template: its text.

    Raises:
        ApiError: no effort, or a template that does not read one.
    """
    if effort is None:
        return dict(variables)
    if effort not in EFFORTS:
        raise ApiError(f"{name} is {effort!r:.80}; it can be {', '.join(EFFORTS)}.", param=name)
    if "reasoning_effort" in template and (effort != "none" or SWITCH not in template):
        return {"reasoning_effort": effort, **variables}
    return {**thinking_variables(template, effort != "none", name), **variables}


def thinking_variables(template: str, thinks: bool, name: str) -> dict[str, Any]:
    """Return the variable that turns reasoning on or off. Raises ApiError for a template without one."""
    for switch in (SWITCH, "thinking"):
        if switch in template:
            return {switch: thinks}
    if not thinks and "<think>" not in template and "reasoning_effort" not in template:
        return {}  # the model does not reason
    raise ApiError(
        f"{name}: the chat template of this model has no such setting.", param=name, code="unsupported_parameter"
    )
