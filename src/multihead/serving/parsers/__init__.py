"""Parsers of what models write: reasoning, content and tool calls, while the text arrives."""

from .choice import choose_parser
from .deltas import CallDelta, ParsedDelta
from .grammar import tool_grammar
from .output_parser import OutputParser
from .registry import REASONING_PARSERS, TOOL_PARSERS

__all__ = [
    "REASONING_PARSERS",
    "TOOL_PARSERS",
    "CallDelta",
    "OutputParser",
    "ParsedDelta",
    "choose_parser",
    "tool_grammar",
]
