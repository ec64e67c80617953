"""Calls as a name and a JSON object with markers between: Mistral, DeepSeek, Kimi."""

from __future__ import annotations

from .deltas import Writer
from .json_calls import json_calls
from .json_text import json_value
from .schemas import Tools
from .source import NotACall, Reads, Source

MISTRAL = "[TOOL_CALLS]"
MISTRAL_OTHERS = ("[CALL_ID]", "[ARGS]")
DEEPSEEK = "<｜tool▁calls▁begin｜>"
DEEPSEEK_CALL, DEEPSEEK_SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
DEEPSEEK_END, DEEPSEEK_ALL_END = "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"
KIMI, KIMI_CALL = "<|tool_calls_section_begin|>", "<|tool_call_begin|>"
KIMI_ARGUMENTS, KIMI_END, KIMI_ALL_END = (
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|tool_calls_section_end|>",
)
FENCE = "```"

mistral_list = json_calls()


def mistral(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
    """Read a list of JSON calls, or `name[CALL_ID]id[ARGS]{...}` without the id or both markers.

    Raises:
        NotACall: as `read_arguments`.
    """
    yield from source.space()
    if (yield from source.follows("[{", "[", "{")) in ("[{", "[", "{"):
        yield from mistral_list(source, out, marker, tools)
        return
    name = yield from source.name()
    if (yield from source.accept("[CALL_ID]", space=True)):
        yield from source.name()
    yield from source.accept("[ARGS]", space=True)
    yield from read_arguments(source, out, name)


def deepseek(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
    """Read `name<sep>{...}<end>` (V3.1), or `function<sep>name`, a line and a fenced block of JSON (V3, R1)."""
    if marker == DEEPSEEK:
        yield from source.expect(DEEPSEEK_CALL, space=True)
    while True:
        yield from source.space()
        name = yield from source.name()
        yield from source.expect(DEEPSEEK_SEPARATOR, space=True)
        yield from source.space()
        fenced = (yield from source.peek()) != "{"
        if fenced:
            name = yield from source.name()
            yield from source.accept(FENCE + "json", FENCE, space=True)
        yield from read_arguments(source, out, name)
        if fenced:
            yield from source.accept(FENCE, space=True)
        yield from source.accept(DEEPSEEK_END, space=True)
        source.hold()
        if (yield from source.accept(DEEPSEEK_CALL, DEEPSEEK_ALL_END, space=True)) != DEEPSEEK_CALL:
            return


def kimi(source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
    """Read `functions.name:0<arguments>{...}<end>`."""
    if marker == KIMI:
        yield from source.expect(KIMI_CALL, space=True)
    while True:
        yield from source.space()
        name = yield from source.name()
        yield from source.expect(KIMI_ARGUMENTS, space=True)
        yield from read_arguments(source, out, name.removeprefix("functions.").rpartition(":")[0] or name)
        yield from source.accept(KIMI_END, space=True)
        source.hold()
        if (yield from source.accept(KIMI_CALL, KIMI_ALL_END, space=True)) != KIMI_CALL:
            return


def read_arguments(source: Source, out: Writer, name: str) -> Reads[None]:
    """Read the JSON object of a call and pass it on. Raises NotACall for other text, and where it breaks off."""
    yield from source.space()
    if (yield from source.peek()) != "{":
        raise NotACall
    source.release()
    out.open_call(name)
    yield from json_value(source, out.arguments)
