"""The parser of an answer: as the user names it, as the tokenizer's response template says, or by the chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InvalidInput, nearest
from . import harmony
from .harmony import HarmonyParser
from .output_parser import OutputParser, ReasoningFormat
from .registry import REASONING_PARSERS, TOOL_PARSERS
from .schemas import Tools
from .templates import template_parser

HF, HARMONY_TOOLS, HARMONY_REASONING = "hf", "openai", "openai_gptoss"
TOOL_SIGNS = (  # text of a chat template, parser, other text of the template; the first that is found counts
    ("<|tool_call>call:", "gemma4"),
    ("<start_function_call>", "functiongemma"),
    ("function_calls>", "deepseek_v32", "｜DSML｜"),
    ("tool_calls>", "deepseek_v4", "｜DSML｜"),
    ("<｜tool▁calls▁begin｜>", "deepseek_v3"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<arg_key>", "glm45"),
    ("<|tool_call_start|>", "lfm2"),
    ("<|tool_list_start|>", "lfm2"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<seed:tool_call>", "seed_oss"),
    ("<parameter=", "qwen3_coder"),
    ("<|START_ACTION|>", "cohere_command3"),
    ("<function_calls>", "olmo3"),
    ("<TOOLCALL>", "nemotron_json"),
    ("<tool_calls>", "jamba"),
    ("<|/tool|>", "phi4_mini_json"),
    ("<|tool_call|>", "granite"),
    ("<tool_call>", "hermes"),
    ("<|python_start|>", "llama4_pythonic"),
    ('{"name": function name, "parameters": dictionary', "llama3_json"),
)
REASONING_SIGNS = (
    ("<|channel>thought", "gemma4"),
    ("[THINK]", "mistral"),
    ("<|START_THINKING|>", "cohere_command3"),
    ("Here is my thought process", "granite"),
    ("<seed:think>", "seed_oss"),
    ("<think>", "qwen3"),
    ("</think>", "qwen3"),
)
TURN = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]|\n\w+:")  # what begins or ends a message
HARMONY_SIGNS = ("<|channel|>", "<|message|>")
FAMILIES = {  # model_type -> tool parser, for chat templates that show tools and no format of calls
    "deepseek_v3": "deepseek_v3", "falcon_h1": "hermes", "granite": "granite", "ministral": "mistral",
    "mistral": "mistral", "mixtral": "mistral", "olmo3": "olmo3", "phi3": "phi4_mini_json", "qwen2": "hermes",
    "qwen2_moe": "hermes", "qwen3": "hermes", "qwen3_moe": "hermes", "smollm3": "hermes",
}  # fmt: skip


def choose_parser(
    tokenizer: Any,
    *,
    family: str | None,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_parser: str | None = None,
    reasoning_parser: str | None = None,
    prompt: str = "",
) -> OutputParser:
    """Return the parser of one answer.

    Args:
        family: the model_type. tools: those of the request; without any, text is never a call.
        tool_parser, reasoning_parser: names of `TOOL_PARSERS` and `REASONING_PARSERS`; left out, the tokenizer's
            response template decides, then its chat template and the family, else all text is content.
        prompt: the rendered prompt, or its end: a chat template may open the reasoning there.

    Raises:
        InvalidInput: an unknown name, names that exclude each other, "hf" for a tokenizer without a response template.
        ChatTemplateError: a response template that is broken.
    """
    check_name(tool_parser, TOOL_PARSERS, "tool_parser")
    check_name(reasoning_parser, REASONING_PARSERS, "reasoning_parser")
    check_pair(tool_parser, reasoning_parser)
    template = getattr(tokenizer, "response_template", None)
    if HF in (tool_parser, reasoning_parser) or (template is not None and not (tool_parser or reasoning_parser)):
        return template_parser(tokenizer, template, tools, prompt, special_tokens(tokenizer))
    source = chat_template(tokenizer)
    if tool_parser == HARMONY_TOOLS or reasoning_parser == HARMONY_REASONING:
        return harmony_parser(tokenizer, tools, prompt)
    harmonic = is_harmony(source, family)
    if harmonic and not (tool_parser or reasoning_parser):
        return harmony_parser(tokenizer, tools, prompt)
    tool = tool_parser or ("" if harmonic else tool_parser_of(source, family))
    reasoning = reasoning_parser or ("" if harmonic else reasoning_parser_of(source))
    thoughts = REASONING_PARSERS[reasoning] if reasoning else None
    calls = TOOL_PARSERS[tool] if tool and tools else None
    markers = (*(thoughts.markers if thoughts else ()), *(calls.markers if calls else ()))
    special = special_markers(tokenizer, markers)
    opening = open_reasoning(thoughts, prompt, tokenizer) if thoughts else ""
    return OutputParser(thoughts, calls, Tools(tools), special, opening, tool if calls else "", reasoning)


def harmony_parser(tokenizer: Any, tools: Sequence[Mapping[str, Any]] | None, prompt: str) -> HarmonyParser:
    return HarmonyParser(
        REASONING_PARSERS[HARMONY_REASONING], TOOL_PARSERS[HARMONY_TOOLS], Tools(tools),
        special_markers(tokenizer, harmony.MARKERS), harmony.opening(prompt), HARMONY_TOOLS if tools else "",
        HARMONY_REASONING, calls=bool(tools),
    )  # fmt: skip


def check_name(name: str | None, known: Mapping[str, Any], option: str) -> None:
    if name is not None and name not in known:
        raise InvalidInput(f"{option} {name!r} is none of {', '.join(known)}. {nearest(name, known)}")


def check_pair(tool_parser: str | None, reasoning_parser: str | None) -> None:
    """Raise InvalidInput for two formats of which one divides the whole answer."""
    for tool, reasoning in ((HF, HF), (HARMONY_TOOLS, HARMONY_REASONING)):
        if (tool_parser == tool) != (reasoning_parser == reasoning) and tool_parser and reasoning_parser:
            raise InvalidInput(
                f"tool_parser {tool_parser!r} and reasoning_parser {reasoning_parser!r} exclude each other, since "
                f"{tool!r} divides the whole answer. Name one of them."
            )


def chat_template(tokenizer: Any) -> str:
    """Return the text of all chat templates of a tokenizer."""
    given = getattr(tokenizer, "chat_template", None)
    return "\n".join(map(str, given.values())) if isinstance(given, Mapping) else str(given or "")


def is_harmony(source: str, family: str | None) -> bool:
    """Return True for a chat template, or a family, of the harmony format."""
    return family == "gpt_oss" or all(sign in source for sign in HARMONY_SIGNS)


def tool_parser_of(source: str, family: str | None) -> str:
    """Return the name of the tool parser for a chat template, "" for none."""
    for sign, name, *more in TOOL_SIGNS:
        if all(text in source for text in (sign, *more)):
            return name
    return FAMILIES.get(family or "", "") if "tools" in source else ""


def reasoning_parser_of(source: str) -> str:
    """Return the name of the reasoning parser for a chat template, "" for none."""
    return next((name for sign, name in REASONING_SIGNS if sign in source), "")


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the tokens that decoding without special tokens leaves out."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    found = [token.content for token in added.values() if token.special]
    return tuple(dict.fromkeys(found or getattr(tokenizer, "all_special_tokens", [])))


def special_markers(tokenizer: Any, markers: Sequence[str]) -> tuple[str, ...]:
    """Return the special tokens that a format needs: markers, and tokens inside markers."""
    return tuple(token for token in special_tokens(tokenizer) if any(token in marker for marker in markers))


def open_reasoning(thoughts: ReasoningFormat, prompt: str, tokenizer: Any) -> str:
    """Return the marker of the reasoning that a prompt leaves open, "" for none.

    Only a marker counts behind which the prompt has no special token, nor what looks like one: else it is in another
    message.
    """
    if not prompt:
        return next(iter(thoughts.blocks)) if thoughts.begins_open else ""
    place, opening = max((prompt.rfind(marker), marker) for marker in thoughts.blocks)
    tail = prompt[place + len(opening) :]
    if place < 0 or any(close in tail for close in thoughts.blocks[opening]):
        return ""
    ends = TURN.search(tail) or any(token in tail for token in special_tokens(tokenizer))
    return "" if ends else opening
