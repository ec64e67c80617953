"""/v1/responses through the official client."""

from __future__ import annotations

import openai
import pytest
from pydantic import BaseModel

GREEDY = {"temperature": 0, "max_output_tokens": 16}


class Answer(BaseModel):
    yes: bool


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_events_build_the_whole_response(client):
    whole = client.responses.create(model="chat", input="Hello", instructions="Be brief.", **GREEDY)
    events = list(client.responses.create(model="chat", input="Hello", instructions="Be brief.", stream=True, **GREEDY))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if not event.type.endswith("delta")]
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text != ""
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens == 16
    assert "user" not in whole.model_fields_set, "OpenAI's schema has no null there"


def test_items_of_a_turn_are_one_message(client):
    turn = [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "Snow"},
    ]
    found = client.responses.create(model="chat", input=turn, **GREEDY)
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "reasoning_content": "Look.", "content": "", "tool_calls": [
            {"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Snow"},
    ]  # fmt: skip
    chat = client.chat.completions.create(model="chat", messages=messages, temperature=0, max_tokens=16)
    assert found.output_text == chat.choices[0].message.content
    assert found.usage.input_tokens == chat.usage.prompt_tokens
    assert client.responses.input_tokens.count(model="chat", input=turn).input_tokens == chat.usage.prompt_tokens


def test_the_tokens_of_an_input_are_counted_as_they_are_read(client):
    asked = {
        "model": "chat", "input": "Hello", "instructions": "Be brief.", "parallel_tool_calls": False,
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}],
    }  # fmt: skip
    found = client.responses.input_tokens.count(**asked)
    assert found.object == "response.input_tokens"
    assert found.input_tokens == client.responses.create(**asked, **GREEDY).usage.input_tokens
    for change in ({"personality": "friendly"}, {"temperature": 1}, {"previous_response_id": "resp_1"}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.input_tokens.count(**asked, extra_body=change)
        assert caught.value.param == next(iter(change))


def test_a_pydantic_model_is_parsed(client):
    found = client.responses.parse(model="chat", input="Is it?", text_format=Answer, temperature=0)
    assert isinstance(found.output_parsed, Answer)
    assert found.status == "completed"


def test_logprobs_of_all_tokens_are_told(client):
    asked = {
        "model": "chat",
        "input": "Hello",
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        **GREEDY,
    }
    whole = client.responses.create(**asked).output[0].content[0]
    assert b"".join(bytes(each.bytes) for each in whole.logprobs).decode(errors="replace") == whole.text
    with client.responses.stream(**asked) as stream:
        streamed = [one for event in stream if event.type == "response.output_text.delta" for one in event.logprobs]
    assert [one.logprob for one in streamed] == pytest.approx([one.logprob for one in whole.logprobs], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "input[0].content[0].type"),
        ({"input": []}, "input"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"unheard": 1}, "unheard"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(client, change, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="chat", input="Hello", extra_body=change)
    assert caught.value.param == param
