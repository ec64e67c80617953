"""/v1/chat/completions through the official client."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from multihead import AutoTokenizer
from multihead.runtime.turns import turn
from multihead.serving.generation.text import ContinuationText
from multihead.serving.models.served_model import ServedModel

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"],
            "additionalProperties": False,
        },
    },
}  # fmt: skip
# A model of random weights writes nothing but what a grammar leaves it: thinking, a text, a call.
THINKS_AND_CALLS = (
    'start: <think> /[a-z ]{5,9}/ </think> "\\n\\nLook: " <tool_call> "\\n{\\"name\\": \\"weather\\", \\"arguments\\": '
    '{\\"city\\": \\"" /[a-z]{1,9}/ "\\"}}\\n" </tool_call>'
)


class Answer(BaseModel):
    yes: bool
    size: int


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def complete(client, **options):
    return client.chat.completions.create(**{"model": "chat", "messages": HELLO, "max_tokens": 20, **options})


def joined(chunks):
    """Build the message of choice 0 from its chunks."""
    message = {"content": "", "reasoning_content": "", "calls": {}, "logprobs": [], "finish_reason": None}
    for chunk in chunks:
        for choice in chunk.choices:
            if choice.index:
                continue
            message["content"] += choice.delta.content or ""
            message["reasoning_content"] += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or ():
                known = message["calls"].setdefault(call.index, {"name": "", "arguments": ""})
                known["name"] += call.function.name or ""
                known["arguments"] += call.function.arguments or ""
            message["logprobs"] += choice.logprobs.content if choice.logprobs else []
            message["finish_reason"] = choice.finish_reason or message["finish_reason"]
    return message


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 1000), stop=st.sampled_from([None, ["a"], ["e", " t"], "\n"]), tokens=st.integers(1, 40),
    grammar=st.sampled_from([None, THINKS_AND_CALLS]),
)  # fmt: skip
def test_a_stream_has_the_parts_of_the_whole_answer(client, seed, stop, tokens, grammar):
    asked = {"max_tokens": tokens, "seed": seed, "stop": stop, "logprobs": True, "top_logprobs": 1, "tools": [WEATHER]}
    if grammar is not None:
        asked |= {"stop": None, "max_tokens": tokens + 50, "extra_body": {"structured_outputs": {"grammar": grammar}}}
    whole = complete(client, **asked)
    chunks = list(complete(client, **asked, stream=True, stream_options={"include_usage": True}))
    choice, streamed = whole.choices[0], joined(chunks)
    assert streamed["content"] == (choice.message.content or "")
    assert streamed["reasoning_content"] == (getattr(choice.message, "reasoning_content", None) or "")
    calls = [
        {"name": call.function.name, "arguments": call.function.arguments} for call in choice.message.tool_calls or ()
    ]
    assert list(streamed["calls"].values()) == calls
    assert streamed["finish_reason"] == choice.finish_reason
    assert [one.bytes for one in streamed["logprobs"]] == [one.bytes for one in choice.logprobs.content]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[0].choices[0].delta.role == "assistant"


def test_thinking_and_a_call_are_no_content(client):
    found = complete(
        client, max_tokens=90, tools=[WEATHER], extra_body={"structured_outputs": {"grammar": THINKS_AND_CALLS}}
    ).choices[0]
    assert found.finish_reason == "tool_calls"
    assert found.message.content == "Look:"
    assert found.message.reasoning_content.strip()
    call = found.message.tool_calls[0]
    assert (call.type, call.function.name, set(json.loads(call.function.arguments))) == (
        "function",
        "weather",
        {"city"},
    )


def test_tokens_of_reasoning_are_those_of_each_answer(client, chat_model):
    form = {"structured_outputs": {"grammar": 'start: <think> /[a-z ]{5,9}/ </think> "So."'}}
    found = complete(client, max_tokens=40, n=4, seed=3, extra_body=form)
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    thoughts = [choice.message.reasoning_content for choice in found.choices]
    count = found.usage.completion_tokens_details.reasoning_tokens
    assert count == sum(map(len, tokenizer.encode_ids(thoughts, special=False)))


TIME = {
    "type": "function",
    "function": {"name": "time", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
}
OSLO_OR_ROME = ('{"city": "Oslo"}', '{"city": "Rome"}')


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", "named", "allowed"])
def test_a_call_that_is_demanded_comes_and_fits_its_schema(client, choice, stream):
    named = {"type": "function", "function": {"name": "weather"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    asked = {
        "tools": [TIME, WEATHER], "max_tokens": 150, "parallel_tool_calls": False, "seed": 4,
        "tool_choice": {"required": "required", "named": named, "allowed": allowed}[choice],
    }  # fmt: skip
    if stream:
        found = joined(complete(client, **asked, stream=True))
        (call,), reason = found["calls"].values(), found["finish_reason"]
        name, arguments = call["name"], call["arguments"]
    else:
        answer = complete(client, **asked).choices[0]
        (call,), reason = answer.message.tool_calls, answer.finish_reason
        name, arguments = call.function.name, call.function.arguments
    assert reason == "tool_calls"
    assert (arguments in OSLO_OR_ROME) if name == "weather" else (choice == "required" and arguments == "{}")


def test_a_tool_that_is_demanded_by_name_is_called_once(client):
    named = {"type": "function", "function": {"name": "weather"}}
    for seed in range(4):
        choice = complete(client, tools=[TIME, WEATHER], tool_choice=named, seed=seed, max_tokens=150).choices[0]
        assert [call.function.name for call in choice.message.tool_calls] == ["weather"]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)


def test_an_answer_is_a_call_or_has_the_form(client):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": 5}}}
    kinds = set()
    for seed in range(6):
        found = complete(client, tools=[WEATHER], response_format=form, seed=seed, max_tokens=200).choices[0]
        calls = found.message.tool_calls or ()
        kinds.add(bool(calls))
        assert all(call.function.arguments in OSLO_OR_ROME for call in calls) if calls else found.message.content == "5"
    assert kinds == {True, False}


def test_tools_may_be_offered_and_forbidden(client):
    without = complete(client, temperature=0)
    forbidden = complete(client, temperature=0, tools=[WEATHER], tool_choice="none")
    assert forbidden.choices[0].message == without.choices[0].message
    assert complete(client, tools=[WEATHER]).usage.prompt_tokens > without.usage.prompt_tokens


@pytest.mark.parametrize("template", ["{{ messages[0].content }}", "{{ messages[0].content }}{{ tools or '' }}"])
def test_tools_that_no_call_would_come_of_are_refused(server, client, monkeypatch, template):
    monkeypatch.setattr(server.state.models.loaded["chat"].tokenizer, "chat_template", template)
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, tools=[WEATHER])
    assert caught.value.param == "tools"
    assert complete(client).choices[0].message.content


ONLY_USERS = """{% for message in messages %}{% if message.role == 'user' %}{{ message.content | trim }}
{% elif message.role == 'tool' %}{{ message.content | tojson }}
{% endif %}{% endfor %}"""
RESULT = {"role": "tool", "tool_call_id": "1", "content": '"Snow"'}


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([{"role": "system", "content": "Be brief."}, *HELLO], "leaves out the message 0, of the role system"),
        ([*HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, RESULT],
         "The message 1 has calls"),
        ([{"role": "user", "content": " Hello\n"}, {"role": "assistant", "content": "Hi."}, RESULT], ""),
    ],
)  # fmt: skip
def test_messages_that_a_template_leaves_out_are_refused(server, client, monkeypatch, messages, named):
    monkeypatch.setattr(server.state.models.loaded["chat"].tokenizer, "chat_template", ONLY_USERS)
    if not named:
        assert complete(client, messages=messages).usage.prompt_tokens
        return
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, messages=messages)
    assert (caught.value.param, named in caught.value.message) == ("messages", True)


def test_logprobs_are_those_of_the_text(client):
    found = complete(client, temperature=0, logprobs=True, top_logprobs=3).choices[0]
    told = found.logprobs.content
    assert b"".join(bytes(one.bytes) for one in told).decode(errors="replace") == found.message.content
    assert all(one.logprob == max(top.logprob for top in one.top_logprobs) for one in told)
    assert all(len(one.top_logprobs) == 3 for one in told)


def test_equal_seeds_give_equal_texts_and_choices_count_on(client):
    texts = [choice.message.content for choice in complete(client, n=3, seed=5).choices]
    assert len(set(texts)) > 1
    assert [choice.message.content for choice in complete(client, n=3, seed=5).choices] == texts
    assert complete(client, seed=6).choices[0].message.content == texts[1]


def test_a_stop_string_ends_a_text_before_it(client):
    whole = complete(client, seed=1).choices[0].message.content
    stop = next(text for text in whole[3:] if text != "\ufffd")
    cut = complete(client, seed=1, stop=[stop, "never comes"]).choices[0]
    assert (cut.message.content, cut.finish_reason, cut.stop_reason) == (whole[: whole.index(stop)], "stop", stop)
    kept = complete(client, seed=1, stop=stop, extra_body={"include_stop_str_in_output": True}).choices[0]
    assert kept.message.content == whole[: whole.index(stop) + 1]


def test_an_object_has_no_properties_but_those_of_its_schema(client):
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    asked = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    for seed in range(3):
        found = complete(client, response_format=asked, max_tokens=100, seed=seed).choices[0]
        assert (set(json.loads(found.message.content)), found.finish_reason) == ({"yes"}, "stop")


def test_a_pydantic_model_is_parsed(client):
    found = client.chat.completions.parse(model="chat", messages=HELLO, response_format=Answer, temperature=0)
    assert isinstance(found.choices[0].message.parsed, Answer)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({"guided_choice": ["yes", "no"]}, {"yes", "no"}),
        ({"structured_outputs": {"regex": "[ab]{2}"}}, {"aa", "ab", "ba", "bb"}),
        ({"structured_outputs": {"grammar": 'start: "x" | "y"'}}, {"x", "y"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": 7}}}}, {"7"}),
    ],
)
def test_a_text_has_the_form_that_is_asked_for(client, asked, allowed):
    assert complete(client, extra_body=asked).choices[0].message.content in allowed


def test_tokens_are_biased_banned_and_allowed(client, chat_model):
    ids = AutoTokenizer.from_pretrained(chat_model).encode_ids(["q"], special=False)[0]
    assert complete(client, logit_bias={str(ids[0]): 100}, max_tokens=3).choices[0].message.content == "qqq"
    allowed = complete(client, max_tokens=3, extra_body={"allowed_token_ids": ids, "return_token_ids": True})
    assert allowed.choices[0].token_ids == ids * 3
    assert len(allowed.prompt_token_ids) == allowed.usage.prompt_tokens
    banned = complete(
        client, logit_bias={str(ids[0]): 100}, max_tokens=3, extra_body={"bad_words": ["q"]}
    )  # fmt: skip
    assert "q" not in banned.choices[0].message.content


def test_the_budget_of_thinking_is_kept(client):
    grammar = "start: <think> /[a-z ]{30}/ </think> /[a-z]{2}/"
    free = complete(client, max_tokens=60, extra_body={"structured_outputs": {"grammar": grammar}})
    assert len(free.choices[0].message.reasoning_content) > 20
    short = "start: <think> /[a-z ]{1,30}/ </think> /[a-z]{2}/"
    found = complete(
        client, max_tokens=60, extra_body={"structured_outputs": {"grammar": short}, "thinking_token_budget": 3}
    )
    assert len(found.choices[0].message.reasoning_content.split()) <= 3
    assert len(found.choices[0].message.content) == 2


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"store": True}, "store"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"n": 0}, "n"),
        ({"n": 999}, "n"),
        ({"temperature": "1"}, "temperature"),
        ({"seed": 1 << 70}, "seed"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 600}, "max_tokens"),
        ({"max_completion_tokens": 600, "max_tokens": None}, "max_completion_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "mood": "y"}]}, "messages[0].mood"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
         "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "no"}}]}]},
         "messages[0].tool_calls[0].function.arguments"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}, "tools": [WEATHER]}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": []}}, "response_format.type"),
        ({"guided_json": "x"}, "guided_json"),
        ({"min_tokens": 10**30}, "min_tokens"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"unheard": True}}, "chat_template_kwargs"),
        ({"documents": [{"text": "x"}]}, "documents"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"length_penalty": 1.0}, "length_penalty"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"min_tokens": 30}, "min_tokens"),
        ({"prediction": {"type": "other"}}, "prediction.type"),
        ({"unheard": 1}, "unheard"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(client, change, param):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, extra_body=change)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"max_tokens": 5, "messages": [{"role": "user", "content": "a"}], "max_tokens": 6}', "'max_tokens' stands"),
        (b'{"messages": [{"role": "user", "role": "system", "content": "a"}]}', "'role' stands twice"),
        (b'{"messages": [{"role": "user", "content": "a"}], "stop": [%s"a"]}' % (b'"a",' * 999), "at most"),
    ],
)
def test_the_fault_is_named(server, body, named):
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"messages": "x"}', b"\xff\xfe", b'{"model": 1}'])
def test_what_is_no_request_is_refused(server, body):
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_errors_have_their_class(client):
    with pytest.raises(openai.NotFoundError) as caught:
        complete(client, model="other")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, model="bert")
    assert caught.value.code == "wrong_task"


def test_an_address_without_the_version_is_told(server):
    with pytest.raises(openai.NotFoundError, match=r"/v1/chat/completions is one: end the client's base URL with /v1"):
        complete(openai.OpenAI(base_url=server.url, api_key="none", max_retries=0))
    assert "/v1" not in server.get("/nothing").json()["error"]["message"]


def test_neutral_fields_of_other_servers_are_accepted(client):
    found = complete(
        client, store=False, service_tier="auto", user="u", metadata={"a": "b"}, modalities=["text"], top_p=1,
        prediction={"type": "content", "content": "x"}, prompt_cache_key="k", safety_identifier="s", verbosity="medium",
        reasoning_effort="none", presence_penalty=0.1, frequency_penalty=-0.1, parallel_tool_calls=True,
        extra_body={"priority": 0, "min_p": 0.1, "top_k": 5, "repetition_penalty": 1.1, "cache_salt": "c"},
    )  # fmt: skip
    assert found.metadata == {"a": "b"}


def test_an_answer_goes_on_with_the_last_message(client):
    messages = [*HELLO, {"role": "assistant", "content": "The quick"}]
    options = {"continue_final_message": True, "add_generation_prompt": False}
    found = complete(client, messages=messages, temperature=0, extra_body={**options, "echo": True})
    bare = complete(client, messages=messages, temperature=0, extra_body=options)
    assert found.choices[0].message.content == "The quick" + bare.choices[0].message.content


def test_older_functions_are_called_in_the_older_form(client):
    asked = {"functions": [WEATHER["function"]], "structured_outputs": {"grammar": THINKS_AND_CALLS}}
    found = complete(client, max_tokens=90, extra_body=asked).choices[0]
    assert (found.finish_reason, found.message.function_call.name) == ("function_call", "weather")


def test_prompt_logprobs_and_cached_tokens_are_told(client):
    text = "The quick brown fox jumps over the lazy dog. " * 3
    asked = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
    first, again = complete(client, **asked), complete(client, **asked)
    assert again.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 64
    found = complete(client, **asked, extra_body={"prompt_logprobs": 2, "return_token_ids": True})
    rows = found.prompt_logprobs
    assert rows[0] is None
    assert len(rows) == found.usage.prompt_tokens
    assert all(str(token) in row for token, row in zip(found.prompt_token_ids[1:], rows[1:], strict=True))


def test_a_client_that_goes_frees_the_engine(server, client):
    model = server.state.models.loaded["chat"]
    body = {"model": "chat", "messages": HELLO, "max_tokens": 480, "n": 8, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()  # kept, since its end would close the connection
        assert next(lines).startswith("data: ")
        assert model.admission.held >= 8
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json={**body, "stream": False}, timeout=0.2)
    deadline = time.monotonic() + 10
    while (model.admission.held or model.engine.busy) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (model.admission.held, model.engine.busy) == (0, False)


def test_a_full_queue_is_refused_at_once(server, client, monkeypatch):
    admission = server.state.models.loaded["chat"].admission
    monkeypatch.setattr(admission, "limit", 2)
    body = {"model": "chat", "messages": HELLO, "max_tokens": 400, "n": 2, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        with pytest.raises(openai.RateLimitError) as caught:
            complete(client)
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_a_request_past_its_time_is_ended(server, client, monkeypatch):
    model = server.state.models.loaded["chat"]
    monkeypatch.setattr(model, "server", replace(model.server, request_timeout=0.3))
    with turn(), pytest.raises(openai.APIStatusError) as caught:  # no engine makes a step meanwhile
        complete(client)
    assert (caught.value.status_code, caught.value.code) == (408, "timeout")
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_silent_stream_has_comments(server, monkeypatch):
    model = server.state.models.loaded["chat"]
    monkeypatch.setattr(model, "server", replace(model.server, keep_alive_interval=0.05))
    body = {"model": "chat", "messages": HELLO, "max_tokens": 2, "stream": True}
    with ExitStack() as stalled:
        stalled.enter_context(turn())
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            assert next(line for line in lines if line.startswith(":")) == ": keep-alive"
            stalled.close()
            assert "data: [DONE]" in list(lines)


def test_an_error_inside_a_stream_is_raised_by_the_client(client, monkeypatch):
    add = ContinuationText.add

    def fail(self, *args):
        if self.num_tokens == 3:
            raise ValueError("/secret/path")
        add(self, *args)

    monkeypatch.setattr(ContinuationText, "add", fail)
    with pytest.raises(openai.APIError) as caught:
        list(complete(client, stream=True))
    assert "secret" not in str(caught.value)
    assert caught.value.type == "server_error"


def test_many_requests_at_once_are_answered_as_alone(client):
    alone = [complete(client, seed=seed, max_tokens=12).choices[0].message.content for seed in range(6)]
    together: dict[int, str] = {}

    def ask(seed):
        together[seed] = complete(client, seed=seed, max_tokens=12).choices[0].message.content

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(6)] == alone


def test_the_api_of_async_clients(server):
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(model="gpt-tiny", messages=HELLO, max_tokens=5, stream=True)
            return [chunk async for chunk in stream]

    chunks = asyncio.run(ask())
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    assert {chunk.model for chunk in chunks} == {"chat"}


def test_the_prompt_of_a_conversation_is_told(server, client):
    asked = {"model": "chat", "messages": HELLO, "tools": [WEATHER]}
    found = server.post("/apply-template", asked).json()["prompt"]
    assert found.startswith("<|im_start|>system")
    assert found.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    count = server.post("/v1/chat/completions/input_tokens", asked).json()["input_tokens"]
    assert count == complete(client, tools=[WEATHER]).usage.prompt_tokens


def test_the_fingerprint_is_of_the_model_as_it_is_served(server, client):
    found = complete(client).system_fingerprint
    assert {chunk.system_fingerprint for chunk in complete(client, stream=True)} == {found}
    assert client.completions.create(model="gpt-tiny", prompt="a").system_fingerprint == found
    served = server.state.models.loaded["chat"]
    other = ServedModel(replace(served.settings, source="other"), served.server, served.pipe)
    assert other.fingerprint != served.fingerprint == found


@pytest.mark.real
def test_a_real_model_answers(real_server):
    client = openai.OpenAI(base_url=f"{real_server.url}/v1", api_key="none")
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    whole = client.chat.completions.create(**asked, temperature=0, max_tokens=24)
    assert "Paris" in whole.choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, temperature=0, max_tokens=24, stream=True))
    assert joined(chunks)["content"] == whole.choices[0].message.content
    found = client.chat.completions.parse(**asked, response_format=Answer, temperature=0, max_tokens=40)
    assert isinstance(found.choices[0].message.parsed, Answer)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, tools=[WEATHER])
    assert caught.value.param == "tools"
