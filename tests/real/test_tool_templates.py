"""Published chat templates write calls that the parsers read again: the right parser, the same calls."""

from __future__ import annotations

import json
import re

import pytest

from multihead import AutoTokenizer
from multihead.serving.parsers import choose_parser
from tests.serving.parsers.reading import read
from tests.tokenizers import folders

from .source_packages import LLAMA_CPP, unpacked

pytestmark = pytest.mark.real
FAMILIES = {  # template -> model_type, tool parser, reasoning parser
    "Bielik-11B-v3.0-Instruct": ("llama", "hermes", "qwen3"),
    "Cohere2MoE": ("cohere2", "cohere_command3", "cohere_command3"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("cohere2", "cohere_command3", "cohere_command3"),
    "GLM-4.6": ("glm4_moe", "glm45", "qwen3"),
    "GLM-4.7-Flash": ("glm4_moe", "glm45", "qwen3"),
    "LFM2.5-8B-A1B": ("lfm2", "lfm2", "qwen3"),
    "MiniMax-M2": ("minimax", "minimax_m2", "qwen3"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral", "mistral", ""),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("nemotron_h", "qwen3_coder", "qwen3"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("llama", "hermes", ""),
    "Qwen-QwQ-32B": ("qwen2", "hermes", "qwen3"),
    "Qwen-Qwen2.5-7B-Instruct": ("qwen2", "hermes", ""),
    "Qwen-Qwen3-0.6B": ("qwen3", "hermes", "qwen3"),
    "Qwen3-Coder": ("qwen3_moe", "qwen3_coder", ""),
    "Qwen3.5-4B": ("qwen3_5", "qwen3_coder", "qwen3"),
    "ByteDance-Seed-OSS": ("seed_oss", "seed_oss", "seed_oss"),
    "StepFun3.5-Flash": ("step3p5", "qwen3_coder", "qwen3"),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek_v3", "deepseek_v3", "qwen3"),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek_v3", "deepseek_v32", "qwen3"),
    "deepseek-ai-DeepSeek-V4": ("deepseek_v4", "deepseek_v4", "qwen3"),
    "google-gemma-4-31B-it": ("gemma4", "gemma4", "gemma4"),
    "ibm-granite-granite-4.0": ("granite", "hermes", ""),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama", "llama3_json", ""),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama", "llama3_json", ""),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("ministral", "mistral", "mistral"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", "mistral", ""),
    "moonshotai-Kimi-K2": ("kimi_k2", "kimi_k2", ""),
    "openai-gpt-oss-120b": ("gpt_oss", "openai", "openai_gptoss"),
    "unsloth-Apriel-1.5": ("mistral", "jamba", ""),
    "unsloth-mistral-Devstral-Small-2507": ("mistral", "mistral", ""),
}
ARGUMENTS = {"city": 'Os"lo </tool_call> é\n{x}', "days": 3, "options": {"a": [1, True, {"b": "]"}], "s": "ü"}}
USER = {"role": "user", "content": "What is <think>?"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tells the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "a city"},
                    "days": {"type": "integer", "description": "how many"},
                    "options": {"type": "object", "description": "more"},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now", "description": "Tells the time.", "parameters": {"type": "object", "properties": {}},
        },
    },
]  # fmt: skip
ENDS = re.compile(  # tokens that end an answer: generation stops there
    r"<\|im_end\|>|</s>|<\|eot_id\|>|<\|eom_id\|>|<\|end_of_text\|>|<｜end▁of▁sentence｜>|<seed:eos>|\[e~\["
    r"|<\|END_OF_TURN_TOKEN\|>|<\|tool_response>|<turn\|>|<\|end\|>\s*(?:</s>\s*)?$"
)


def message(calls, content="", reasoning=""):
    listed = [
        {"id": f"abcdefgh{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed, "reasoning_content": reasoning}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("tools"), "GPT2", bos_token="<s>", eos_token="</s>")
    return AutoTokenizer.from_pretrained(folder)


def answer(tokenizer, chat):
    """The prompt, and what the template writes of the last message behind it."""
    options = {"tools": TOOLS, "tokenize": False, "thinking": True, "enable_thinking": True}
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, **options)
    text = tokenizer.apply_chat_template(chat, **options)
    same = next((n for n, (one, two) in enumerate(zip(prompt, text, strict=False)) if one != two), len(prompt))
    prompt = prompt[:same]
    if ">" not in prompt[prompt.rfind("<") :]:  # what the prompt begins, the template does not write again
        prompt = prompt[: prompt.rfind("<")]
    return prompt, ENDS.split(text[len(prompt) :])[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_of_a_template_are_read_again(tokenizer, name):
    tokenizer.chat_template = (unpacked(*LLAMA_CPP) / "templates" / f"{name}.jinja").read_text()
    family, tool, reasoning = FAMILIES[name]
    one, two = [("get_weather", ARGUMENTS)], [("get_weather", ARGUMENTS), ("now", {})]
    for calls in [one] if tool in ("llama3_json", "openai") else [one, two]:
        for content in ("", "Let me look."):
            thought = "Hm." if reasoning and not (content and tool == "openai") else ""  # gpt-oss writes one of the two
            prompt, text = answer(tokenizer, [USER, message(calls, content, thought)])
            parser = choose_parser(tokenizer, family=family, tools=TOOLS, prompt=prompt)
            assert (parser.tool_parser, parser.reasoning_parser) == (tool, reasoning)
            found = read(parser, text)
            assert [(call, json.loads(arguments)) for call, arguments in found[2]] == calls, text
            assert found[1].strip() in (content, ""), text
            again = choose_parser(tokenizer, family=family, tools=TOOLS, prompt=prompt)
            assert read(again, text, range(1, len(text))) == found


@pytest.mark.parametrize("name", [name for name, (*_, reasoning) in FAMILIES.items() if reasoning])
def test_reasoning_of_a_template_is_read_again(tokenizer, name):
    tokenizer.chat_template = (unpacked(*LLAMA_CPP) / "templates" / f"{name}.jinja").read_text()
    prompt, text = answer(tokenizer, [USER, message([("now", {})], reasoning="I think.\nHm.")])
    if "I think." not in text:
        pytest.skip("the template leaves out what was thought")
    found = read(choose_parser(tokenizer, family=FAMILIES[name][0], tools=TOOLS, prompt=prompt), text)
    assert (found[0], found[2]) == ("I think.\nHm.", [("now", "{}")])
