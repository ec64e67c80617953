"""The form of a text that must be a tool call."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ApiError
from ..parsers import OutputParser
from .sampling import Sampling
from .tools import Tool, ToolChoice


def tool_form(
    sampling: Sampling, parser: OutputParser, tools: Sequence[Tool], choice: ToolChoice, parallel: bool
) -> Sampling:
    """Return sampling whose text is a call where the request demands one. Raises ApiError."""
    if choice.mode != "required":
        return sampling
    raise ApiError("A call cannot be demanded yet.", param="tool_choice", code="unsupported_parameter")
