"""--tool-template generic: tools for models whose chat template has no place for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from multihead.serving.settings import ModelSettings, ServerSettings

from .conftest import RunningServer, chat_checkpoint, running
from .test_chat import WEATHER

TEMPLATE = (
    "{% for message in messages %}{% if loop.index0 and message.role == loop.previtem.role %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
CALLED = [
    {"role": "user", "content": "Oslo and Rome?"},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_2", "content": "snow"},
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A model without a place for tools."""
    folder = chat_checkpoint(tmp_path_factory.mktemp("plain"), positions=2048)
    template = folder / "plain.jinja"
    template.write_text(TEMPLATE)
    model = ModelSettings(source=str(folder), name="chat", precision="float32", chat_template=template)
    with running(ServerSettings(models=(model,), tool_template="generic")) as server:
        yield server


def prompt(server: RunningServer, **body: object) -> str:
    answer = server.post("/apply-template", {"model": "chat", **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt"])


def test_the_system_message_tells_the_tools(plain: RunningServer) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Oslo?"}]
    text = prompt(plain, messages=messages, tools=[WEATHER])
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou can call functions.")
    assert json.dumps(WEATHER["function"]) in text
    assert text.count("<|im_start|>system") == 1
    alone = prompt(plain, messages=messages[1:], tools=[WEATHER])
    assert alone.startswith("<|im_start|>system\nYou can call functions.")


def test_calls_and_results_are_contents(plain: RunningServer) -> None:
    text = prompt(plain, messages=CALLED, tools=[WEATHER])
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    assert f"assistant\nLet me look.\n{call}\n{call}<|im_end|>" in text
    result = "<tool_response>\nrain\n</tool_response>\n<tool_response>\nsnow\n</tool_response>"
    assert f"user\n{result}<|im_end|>" in text  # one message, so that turns alternate
    # the conversation goes on without tools
    assert call in prompt(plain, messages=CALLED)


@pytest.mark.parametrize("stream", [False, True])
def test_a_demanded_call_fits_its_schema(plain: RunningServer, stream: bool) -> None:
    client = openai.OpenAI(base_url=f"{plain.url}/v1", api_key="none", max_retries=0)
    asked = {"model": "chat", "messages": CALLED, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 150}
    if stream:
        parts = [c.choices[0] for c in client.chat.completions.create(**asked, stream=True, parallel_tool_calls=False)]
        calls = [call for part in parts for call in part.delta.tool_calls or []]
        name, arguments = calls[0].function.name, "".join(call.function.arguments for call in calls)
        assert parts[-1].finish_reason == "tool_calls"
    else:
        function = client.chat.completions.create(**asked).choices[0].message.tool_calls[0].function
        name, arguments = function.name, function.arguments
    assert (name, json.loads(arguments)["city"]) in [("weather", "Oslo"), ("weather", "Rome")]


def test_a_template_with_tools_stays_as_it_is(chat_model: Path, server: RunningServer) -> None:
    model = ModelSettings(source=str(chat_model), name="chat", precision="float32")
    with running(ServerSettings(models=(model,), tool_template="generic")) as generic:
        asked = {"messages": CALLED, "tools": [WEATHER]}
        assert prompt(generic, **asked) == prompt(server, **asked)


def test_anthropics_tools_are_told_too(plain: RunningServer) -> None:
    tool = {"name": "weather", "input_schema": WEATHER["function"]["parameters"]}
    body = {"model": "chat", "max_tokens": 150, "messages": CALLED[:1], "tools": [tool], "tool_choice": {"type": "any"}}
    answer = plain.post("/v1/messages", body).json()
    assert next((block["type"], block["name"]) for block in answer["content"]) == ("tool_use", "weather")
