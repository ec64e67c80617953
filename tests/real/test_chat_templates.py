"""Chat templates of published models write what the reference writes: tools, calls, thoughts, documents."""

from __future__ import annotations

import pytest
import transformers

from multihead import AutoTokenizer
from multihead.errors import MultiheadError
from tests.tokenizers import folders

from .source_packages import LLAMA_CPP, unpacked

pytestmark = pytest.mark.real
NAMES = (
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use NousResearch-Hermes-3-Llama-3.1-8B-tool_use "
    "Qwen-Qwen2.5-7B-Instruct "
    "Qwen-Qwen3-0.6B Qwen-QwQ-32B deepseek-ai-DeepSeek-V3.1 deepseek-ai-DeepSeek-R1-Distill-Qwen-32B "
    "google-gemma-2-2b-it meta-llama-Llama-3.1-8B-Instruct meta-llama-Llama-3.2-3B-Instruct "
    "meta-llama-Llama-3.3-70B-Instruct microsoft-Phi-3.5-mini-instruct mistralai-Mistral-Nemo-Instruct-2407 "
    "mistralai-Ministral-3-14B-Reasoning-2512 openai-gpt-oss-120b GLM-4.6 ibm-granite-granite-4.0"
).split()
SYSTEM, USER = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi <b> ünd 'x'"}
ANSWER = {"role": "assistant", "content": "Hello!"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"place": "Oslo"}}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "15 C"}
CHATS = [
    [USER], [SYSTEM, USER], [USER, ANSWER, USER, ANSWER], [USER, {**ANSWER, "reasoning_content": "hm"}, USER],
    [USER, {**ANSWER, "content": "<think>a</think>b"}, USER], [USER, CALLING, RESULT, ANSWER], [USER, USER],
    [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
]  # fmt: skip


def weather(place: str, days: int = 1) -> str:
    """Tells the weather.

    Args:
        place: a city
        days: how many
    """


OPTIONS = [
    {}, {"add_generation_prompt": True}, {"tools": [weather], "add_generation_prompt": True},
    {"enable_thinking": False, "add_generation_prompt": True}, {"documents": [{"title": "t", "text": "x"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("chat"), "GPT2", bos_token="<s>", eos_token="</s>")
    return AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_template_writes_what_the_reference_writes(both, name):
    source = (unpacked(*LLAMA_CPP) / "templates" / f"{name}.jinja").read_text()
    written = 0
    for chat in CHATS:
        for options in [*OPTIONS, *([{"continue_final_message": True}] if chat[-1] is ANSWER else [])]:
            texts = []
            for tokenizer, errors in zip(both, (MultiheadError, Exception), strict=True):
                try:
                    texts.append(tokenizer.apply_chat_template(chat, chat_template=source, tokenize=False, **options))
                except errors:
                    texts.append(None)
            assert texts[0] == texts[1], (chat, options)
            written += texts[0] is not None
    assert written >= 7  # a template for tools alone
