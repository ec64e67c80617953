"""Names of the formats, as vLLM calls them."""

from __future__ import annotations

from collections.abc import Mapping

from . import named_calls
from .gemma_calls import gemma_calls
from .harmony import MARKERS as HARMONY_MARKERS
from .json_calls import json_calls
from .output_parser import ReasoningFormat, ToolFormat
from .python_calls import python_calls, python_lines
from .tagged_calls import DSML, DSML_V4, GLM, MINIMAX, QWEN, SEED, Tags


def between(open_marker: str, close: str, *others: str) -> ToolFormat:
    """Return the format of JSON calls between markers. `others`: further opening markers."""
    return ToolFormat((open_marker, *others), json_calls(close), others=(close,))


def tagged(tags: Tags, *, alone: bool = False) -> ToolFormat:
    """Return the format of calls in tags. `alone`: a call may stand without the tags of its block."""
    opens = (tags.block[0], tags.call[0]) if alone else (tags.block[0],)
    return ToolFormat(opens, tags.read, others=tags.markers)


HERMES = between("<tool_call>", "</tool_call>")
LLAMA = ToolFormat(("<|python_tag|>",), json_calls(bare=True), bare=("{",))
LLAMA_PYTHONIC = ToolFormat(
    ("<|python_start|>",), python_calls("<|python_end|>"), bare=("[",), others=("<|python_end|>",)
)
DEEPSEEK = ToolFormat(
    (named_calls.DEEPSEEK, named_calls.DEEPSEEK_CALL),
    named_calls.deepseek,
    others=(named_calls.DEEPSEEK_SEPARATOR, named_calls.DEEPSEEK_END, named_calls.DEEPSEEK_ALL_END),
)
HARMONY = ToolFormat((), json_calls(), others=HARMONY_MARKERS)

TOOL_PARSERS: Mapping[str, ToolFormat | None] = {
    "cohere_command3": between("<|START_ACTION|>", "<|END_ACTION|>"),
    "deepseek_v3": DEEPSEEK,
    "deepseek_v31": DEEPSEEK,
    "deepseek_v32": tagged(DSML),
    "deepseek_v4": tagged(DSML_V4),
    "functiongemma": ToolFormat(
        ("<start_function_call>",),
        gemma_calls("<escape>", "<end_function_call>"),
        others=("<escape>", "<end_function_call>"),
    ),
    "gemma4": ToolFormat(("<|tool_call>",), gemma_calls('<|"|>', "<tool_call|>"), others=('<|"|>', "<tool_call|>")),
    "glm45": tagged(GLM),
    "glm47": tagged(GLM),
    "granite": ToolFormat(("<|tool_call|>", "<tool_call>"), json_calls("</tool_call>"), others=("</tool_call>",)),
    "granite4": HERMES,
    "hermes": HERMES,
    "hf": None,  # reads the tokenizer's response template
    "jamba": between("<tool_calls>", "</tool_calls>"),
    "kimi_k2": ToolFormat(
        (named_calls.KIMI, named_calls.KIMI_CALL),
        named_calls.kimi,
        others=(named_calls.KIMI_ARGUMENTS, named_calls.KIMI_END, named_calls.KIMI_ALL_END),
    ),
    "lfm2": ToolFormat(("<|tool_call_start|>",), python_calls("<|tool_call_end|>"), others=("<|tool_call_end|>",)),
    "llama3_json": LLAMA,
    "llama4_json": LLAMA,
    "llama4_pythonic": LLAMA_PYTHONIC,
    "minimax_m2": tagged(MINIMAX),
    "mistral": ToolFormat((named_calls.MISTRAL,), named_calls.mistral, others=named_calls.MISTRAL_OTHERS),
    "nemotron_json": between("<TOOLCALL>", "</TOOLCALL>"),
    "olmo3": ToolFormat(("<function_calls>",), python_lines("</function_calls>"), others=("</function_calls>",)),
    "openai": HARMONY,
    "phi4_mini_json": ToolFormat(
        ("functools", "<|tool_call|>"), json_calls("<|/tool_call|>"), others=("<|/tool_call|>",)
    ),
    "pythonic": LLAMA_PYTHONIC,
    "qwen3_coder": tagged(QWEN, alone=True),
    "qwen3_xml": tagged(QWEN, alone=True),
    "seed_oss": tagged(SEED),
}

THINK: dict[str, tuple[str, ...]] = {"<think>": ("</think>",)}
REASONING_PARSERS: Mapping[str, ReasoningFormat | None] = {
    "cohere_command3": ReasoningFormat(
        {"<|START_THINKING|>": ("<|END_THINKING|>",)}, True, (("<|START_RESPONSE|>", "<|END_RESPONSE|>"),)
    ),
    "deepseek_r1": ReasoningFormat(THINK, begins_open=True),
    "deepseek_v3": ReasoningFormat(THINK),
    "gemma4": ReasoningFormat({"<|channel>thought\n": ("<channel|>",), "<|channel>thought": ("<channel|>",)}, True),
    "glm45": ReasoningFormat(THINK),
    "granite": ReasoningFormat(
        {
            "Here is my thought process:": ("Here is my response:", "Here's my response:"),
            "Here's my thought process:": ("Here is my response:", "Here's my response:"),
            **THINK,
        },
        wraps=(("<response>", "</response>"),),
    ),
    "hf": None,  # reads the tokenizer's response template
    "mistral": ReasoningFormat({"[THINK]": ("[/THINK]",)}, True),
    "olmo3": ReasoningFormat(THINK, begins_open=True),
    "openai_gptoss": ReasoningFormat({}, others=HARMONY_MARKERS),
    "qwen3": ReasoningFormat(THINK),
    "seed_oss": ReasoningFormat({"<seed:think>": ("</seed:think>",)}),
}
