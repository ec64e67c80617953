"""Ollama's interface through the official client."""

from __future__ import annotations

import json

import ollama
import pytest

HELLO = [{"role": "user", "content": "Hello"}]
GREEDY = {"temperature": 0, "num_predict": 16}


@pytest.fixture
def client(server):
    return ollama.Client(host=server.url)


def test_lines_have_the_text_of_the_whole_answer(client):
    whole = client.chat("chat:latest", HELLO, options=GREEDY)
    lines = list(client.chat("chat", HELLO, options=GREEDY, stream=True))
    assert "".join(line.message.content for line in lines) == whole.message.content != ""
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    last = lines[-1]
    assert (last.done_reason, last.eval_count) == (whole.done_reason, whole.eval_count) == ("length", 16)
    assert last.total_duration >= last.prompt_eval_duration + last.eval_duration > 0


def test_a_prompt_and_a_raw_prompt(client):
    templated = client.generate("chat", "Hello", options=GREEDY)
    as_chat = client.chat("chat", HELLO, options=GREEDY)
    assert templated.response == as_chat.message.content
    raw = client.generate("chat", "Hello", raw=True, options=GREEDY)
    assert raw.prompt_eval_count < templated.prompt_eval_count
    lines = client.generate("chat", "Hello", raw=True, options=GREEDY, stream=True)
    assert "".join(line.response for line in lines) == raw.response


def test_json_in_a_schema_and_logprobs(client):
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
    found = client.chat("chat", HELLO, format=schema, logprobs=True, top_logprobs=2)
    assert json.loads(found.message.content) == {"a": 1}
    assert "".join(each.token for each in found.logprobs) == found.message.content
    assert all(len(each.top_logprobs) == 2 and each.logprob < 0 for each in found.logprobs)


def test_calls_come_whole(client, server):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    messages = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
        {"role": "tool", "content": "Snow", "tool_name": "weather"},
    ]
    found = client.chat("chat", messages, tools=[tool], options=GREEDY)
    assert found.prompt_eval_count > client.chat("chat", messages[:1], options=GREEDY).prompt_eval_count


def test_models_are_listed_and_shown(client):
    assert {model.model for model in client.list().models} == {"chat", "bert", "classifier", "marian"}
    shown = client.show("chat")
    assert (shown.details.family, shown.modelinfo["llama.context_length"]) == ("llama", 512)
    assert set(shown.capabilities) == {"completion", "tools", "thinking"}
    running = {model.model: model for model in client.ps().models}
    assert running["chat"].size > 0


def test_a_sentence_encoder_is_listed_and_shown(task_server):
    client = ollama.Client(host=task_server.url)
    client.embed("encoder", "A dog")
    listed = {model.model: model for model in client.list().models}
    assert {model.model for model in client.ps().models} >= {"encoder"}
    assert listed["encoder"].details.family == client.show("encoder").details.family == "bert"


def test_an_empty_request_loads_a_model_and_says_how_long_it_stays(client, server):
    assert client.generate("chat", keep_alive="7m").done_reason == "load"
    assert server.state.models.loaded["chat"].keep == 420
    assert client.chat("chat", [], keep_alive=-1).done_reason == "load"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": {"num_thread": 4}}, "options.num_thread"),
        ({"options": {"mirostat": 1}}, "options.mirostat"),
        ({"options": {"top_k": 1.5}}, "options.top_k"),
        ({"options": {"tempereture": 1}}, "options.tempereture"),
        ({"options": {"repeat_last_n": 64, "repeat_penalty": 1.1}}, "options.repeat_last_n"),
        ({"options": {"repeat_last_n": 64, "frequency_penalty": 1}}, "options.repeat_last_n"),
        ({"options": {"num_ctx": 4096}}, "options.num_ctx"),
        ({"format": "xml"}, "format"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}, "messages[0].images"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(server, change, named):
    answer = server.post("/api/chat", {"model": "chat", "messages": HELLO, **change})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(named)


def test_the_empty_fields_of_the_command_line_client_change_nothing(server):
    shown = server.post("/api/show", {"model": "", "name": "chat", "system": "", "template": "", "options": None})
    assert shown.json()["details"]["family"] == "llama"
    asked = {"model": "chat", "prompt": "Hello", "options": GREEDY, "stream": False}
    empty = {"system": "", "template": "", "suffix": "", "images": None, "context": None}
    answers = [server.post("/api/generate", {**asked, **more}).json()["response"] for more in ({}, empty)]
    assert answers[0] == answers[1] != ""
    assert server.post("/api/show", {"model": "chat", "system": "x"}).status_code == 400


def test_an_unknown_model_is_the_error_that_the_client_knows(client):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("other", HELLO)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as caught:
        client.generate("chat", "x", suffix="y")
    assert (caught.value.status_code, "suffix" in caught.value.error) == (400, True)
