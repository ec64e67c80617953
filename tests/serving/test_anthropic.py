"""Anthropic's interface through the official client."""

from __future__ import annotations

import anthropic
import pytest

HELLO = [{"role": "user", "content": "Hello"}]
GREEDY = {"temperature": 0}  # no argument of the client any more, but a field of the interface
WEATHER = {
    "name": "weather", "description": "Tells the weather.",
    "input_schema": {
        "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"],
        "additionalProperties": False,
    },
}  # fmt: skip


@pytest.fixture
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def test_a_stream_has_the_blocks_of_the_whole_message(client):
    asked = {"model": "chat", "max_tokens": 24, "messages": HELLO, "extra_body": GREEDY, "system": "Be brief."}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        names = [event.type for event in stream]
        final = stream.get_final_message()
    assert [block.text for block in final.content] == [block.text for block in whole.content]
    assert final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert (names[0], names[-1]) == ("message_start", "message_stop")
    assert (
        whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
        == client.messages.count_tokens(**{name: asked[name] for name in ("model", "messages", "system")}).input_tokens
    )


def test_a_stop_sequence_is_named(client):
    text = client.messages.create(model="chat", max_tokens=24, messages=HELLO, extra_body=GREEDY).content[0].text
    stop = next(word for word in text[2:] if word != "\ufffd" and text.index(word) >= 2)
    found = client.messages.create(
        model="chat", max_tokens=24, messages=HELLO, extra_body=GREEDY, stop_sequences=[stop, "never comes"]
    )
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", stop)
    assert found.content[0].text == text[: text.index(stop)]


def test_an_assistant_at_the_end_is_continued(client, server):
    before = client.messages.count_tokens(model="chat", messages=HELLO).input_tokens
    with_prefill = client.messages.count_tokens(
        model="chat", messages=[*HELLO, {"role": "assistant", "content": "x"}]
    ).input_tokens
    assert with_prefill == before + 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"container": "c"}, "container"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tool_choice": {"type": []}}, "tool_choice"),
        ({"thinking": {"type": "disabled", "budget_tokens": 4}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(client, change, named):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="chat", max_tokens=2, messages=HELLO, extra_body=change)
    assert named in caught.value.body["error"]["message"]
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert caught.value.request_id


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="other", max_tokens=2, messages=HELLO)
    assert caught.value.body["error"]["type"] == "not_found_error"


def test_results_of_tools_and_thinking_are_read(client):
    messages = [
        *HELLO,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Look it up.", "signature": ""},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Snow"}]},
            {"type": "text", "text": "So?"},
        ]},
    ]  # fmt: skip
    found = client.messages.create(model="chat", max_tokens=4, messages=messages, tools=[WEATHER])
    assert found.usage.output_tokens == 4


def test_json_of_a_schema(client):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    found = client.messages.create(
        model="chat", max_tokens=40, messages=HELLO, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert found.content[0].text.replace(" ", "").replace("\n", "") in ('{"a":1}', '{"a":2}')


def test_a_call_that_is_demanded_is_a_block(client):
    asked = {"model": "chat", "max_tokens": 200, "messages": HELLO, "tools": [WEATHER], "extra_body": GREEDY}
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    whole = client.messages.create(**asked, tool_choice=choice)
    with client.messages.stream(**asked, tool_choice=choice) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        (block,) = message.content
        assert (message.stop_reason, block.type, block.name) == ("tool_use", "tool_use", "weather")
        assert block.input["city"] in ("Oslo", "Rome")
