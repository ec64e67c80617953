"""/v1/completions through the official client, against the library's own numbers."""

from __future__ import annotations

import math

import openai
import pytest
import torch

from multihead import AutoModelForCausalLM, AutoTokenizer
from multihead.serving.settings import ModelSettings, ServerSettings
from multihead.serving.text_limits import beginning
from multihead.tokenizers.core import TokenizerCore
from tests.serving.conftest import running

TEXT = "The quick brown fox"


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(chat_model):
    return AutoModelForCausalLM.from_pretrained(chat_model).eval()


@pytest.fixture(scope="module")
def tokenizer(chat_model):
    return AutoTokenizer.from_pretrained(chat_model)


def complete(client, **options):
    return client.completions.create(**{"model": "chat", "prompt": TEXT, "max_tokens": 8, "temperature": 0, **options})


def test_greedy_texts_are_those_of_generate(client, model, tokenizer):
    ids = tokenizer([TEXT], return_tensors="pt").input_ids
    new = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert complete(client).choices[0].text == tokenizer.decode(new)


def test_a_stream_has_the_text_of_the_whole_completion(client):
    asked = {"prompt": [TEXT, "Hello"], "n": 2, "temperature": 1, "seed": 3, "logprobs": 1, "echo": True}
    whole = complete(client, **asked)
    texts, tokens, offsets = [""] * 4, [[], [], [], []], [[], [], [], []]
    for chunk in complete(client, **asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens
            offsets[choice.index] += choice.logprobs.text_offset
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs.tokens for choice in whole.choices]
    assert offsets == [choice.logprobs.text_offset for choice in whole.choices]
    assert all(text.startswith(prompt) for text, prompt in zip(texts, [TEXT, TEXT, "Hello", "Hello"], strict=True))


@pytest.mark.parametrize("limit", [0, 1])
def test_a_prompt_is_scored_as_the_model_does(client, model, tokenizer, limit):
    found = complete(client, echo=True, max_tokens=limit, logprobs=2).choices[0]
    ids = tokenizer([TEXT], return_tensors="pt").input_ids
    with torch.no_grad():
        scores = model(input_ids=ids).logits[0].log_softmax(-1)
    expected = scores[:-1].gather(1, ids[0, 1:, None]).flatten().tolist()
    length = ids.shape[1]
    assert found.logprobs.token_logprobs[0] is None
    assert found.logprobs.token_logprobs[1:length] == pytest.approx(expected, abs=1e-4)
    assert len(found.logprobs.tokens) == length + limit
    best = scores[:-1].max(-1).values.tolist()
    assert [max(top.values()) for top in found.logprobs.top_logprobs[1:length]] == pytest.approx(best, abs=1e-4)
    assert "".join(found.logprobs.tokens[:length]) == TEXT
    assert [TEXT[begin:] for begin in found.logprobs.text_offset[:length]] == [
        "".join(found.logprobs.tokens[place:length]) for place in range(length)
    ]


def test_a_stream_of_several_texts_tells_the_scores_of_the_prompt(client):
    text = "The dog é" * 9
    asked = {"prompt": text, "echo": True, "logprobs": 0, "n": 4, "temperature": 1, "seed": 1, "max_tokens": 4}
    whole = [choice.logprobs.token_logprobs for choice in complete(client, **asked).choices]
    streamed: list[list[float]] = [[] for _ in whole]
    for chunk in complete(client, **asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.logprobs.token_logprobs
    for one, other in zip(streamed, whole, strict=True):
        assert one[0] is other[0] is None
        assert one[1:] == pytest.approx(other[1:], abs=1e-4)


def test_prompts_are_texts_or_tokens(client, tokenizer):
    ids = tokenizer.encode_ids([TEXT])[0]
    texts = {complete(client, prompt=prompt).choices[0].text for prompt in (TEXT, [TEXT], ids, [ids])}
    assert len(texts) == 1
    assert [choice.index for choice in complete(client, prompt=[ids, ids[:2]], n=2, temperature=1).choices] == [
        0,
        1,
        2,
        3,
    ]


def test_the_best_of_several_has_the_highest_mean_logprob(client):
    asked = {"temperature": 1, "seed": 7, "max_tokens": 6}
    drafts = complete(client, **asked, n=5, logprobs=0).choices
    means = {
        choice.text: sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs) for choice in drafts
    }
    best = complete(client, **asked, best_of=5)
    assert best.choices[0].text == max(means, key=means.get)
    assert best.usage.completion_tokens == 30


def test_beam_search_finds_what_generate_finds(client, model, tokenizer):
    ids = tokenizer([TEXT], return_tensors="pt").input_ids
    rows = model.generate(ids, max_new_tokens=6, num_beams=3, num_return_sequences=3, do_sample=False)
    found = complete(client, max_tokens=6, n=3, extra_body={"use_beam_search": True})
    assert [choice.text for choice in found.choices] == tokenizer.batch_decode(rows[:, ids.shape[1] :])
    alone = [
        complete(client, max_tokens=6, temperature=1, extra_body={"use_beam_search": one}) for one in (True, False)
    ]
    assert alone[0].choices[0].text == complete(client, max_tokens=6, temperature=0).choices[0].text
    assert alone[0].choices[0].text != alone[1].choices[0].text


def test_prompts_are_cut_where_it_is_asked_for(client, tokenizer):
    found = complete(client, extra_body={"truncate_prompt_tokens": 2, "return_token_ids": True}).choices[0]
    assert found.prompt_token_ids == tokenizer.encode_ids([TEXT])[0][-2:]
    assert len(found.token_ids) == 8


def test_end_tokens_may_be_ignored_and_added(client, tokenizer):
    first = complete(client, max_tokens=1, extra_body={"return_token_ids": True}).choices[0].token_ids[0]
    found = complete(client, extra_body={"stop_token_ids": [first], "return_token_ids": True}).choices[0]
    assert (found.text, found.finish_reason, found.token_ids, found.stop_reason) == ("", "stop", [first], first)
    end = {str(tokenizer.eos_token_id): 100}
    stop = {"stop_token_ids": [tokenizer.eos_token_id]}
    assert complete(client, logit_bias=end, extra_body=stop).choices[0].stop_reason is None  # the model's own end
    named = complete(client, logit_bias=end, extra_body={**stop, "ignore_eos": True}).choices[0]
    assert (named.finish_reason, named.stop_reason) == ("stop", tokenizer.eos_token_id)
    assert complete(client, logit_bias=end).choices[0].finish_reason == "stop"
    ignored = complete(client, logit_bias=end, extra_body={"ignore_eos": True})
    assert (ignored.choices[0].finish_reason, ignored.usage.completion_tokens) == ("length", 8)


def test_both_names_of_the_limit_are_read(client):
    # guidellm sends both to this path
    both = complete(client, max_tokens=3, extra_body={"max_completion_tokens": 3, "ignore_eos": True})
    one = complete(client, max_tokens=None, extra_body={"max_completion_tokens": 3, "ignore_eos": True})
    assert both.usage.completion_tokens == one.usage.completion_tokens == 3


def test_logprobs_are_finite_where_a_token_cannot_come(client):
    found = complete(client, logprobs=20, extra_body={"allowed_token_ids": [5, 6]}).choices[0]
    assert all(math.isfinite(value) for top in found.logprobs.top_logprobs for value in top.values())


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, None),
        ({"prompt": [999999]}, "prompt"),
        ({"prompt": ["a"] * 3000}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"max_tokens": 0, "max_completion_tokens": 0}, "max_completion_tokens"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"use_beam_search": True, "stream": True}, "stream"),
        ({"use_beam_search": True, "n": 2, "temperature": 0.7}, "temperature"),
        ({"use_beam_search": True, "n": 2, "top_p": 0.7}, "top_p"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 9999}, "truncate_prompt_tokens"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"repetition_penalty": 5e-324}, "repetition_penalty"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(client, change, param):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, extra_body=change)
    assert (caught.value.param or "").split("[")[0] == (param or "")


def test_a_huge_prompt_is_refused_before_it_is_tokenized_whole(chat_model, monkeypatch):
    tokenized = []
    encode = TokenizerCore.encode_ids

    def counted(tokenizer, texts, *rest, **options):
        tokenized.extend(map(len, texts))
        return encode(tokenizer, texts, *rest, **options)

    monkeypatch.setattr(TokenizerCore, "encode_ids", counted)
    model = ModelSettings(source=str(chat_model), name="chat", precision="float32")
    with running(ServerSettings(models=(model,), max_body=64 << 20)) as server:
        text = "the fox " * 1_000_000
        asked = [
            ("/v1/completions", {"prompt": text}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
            ("/v1/messages", {"messages": [{"role": "user", "content": text}], "max_tokens": 4}),
            ("/api/generate", {"model": "chat", "prompt": text, "raw": True}),
            ("/models/chat", {"inputs": text}),
            ("/v1/embeddings", {"input": [text]}),
        ]
        for path, body in asked:
            answer = server.post(path, body if path == "/models/chat" else {"model": "chat", **body})
            assert answer.status_code == 400, (path, answer.text[:300])
            assert "512" in answer.text
        vectors = server.post("/v2/embed", {"model": "chat", "texts": [text], "input_type": "search_query"})
        short = server.post("/v2/embed", {"model": "chat", "texts": [text[:9000]], "input_type": "search_query"})
        assert vectors.json()["embeddings"] == short.json()["embeddings"]  # both are cut
        assert max(tokenized) < 100_000


def test_a_beginning_has_the_tokens_of_the_whole_text(chat_model, bert):
    for folder in (chat_model, bert):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for text in ("the dog " * 9000, "fox" * 30000, " " * 60000, "the dog", "x" * 90000, f"a{' ' * 50000}fox"):
            begin = beginning(tokenizer, text, 20)
            whole = tokenizer.encode_ids([text], special=False)[0]
            assert text.startswith(begin)
            assert begin == text or len(whole) > 20
            assert tokenizer.encode_ids([begin], special=False)[0][:20] == whole[:20]


@pytest.mark.parametrize(("path", "field", "wrong"), [
    ("/v1/completions", "structured_outputs", {"grammar": "start: x y"}),
    ("/v1/completions", "guided_regex", "("),
    ("/v1/chat/completions", "response_format",
     {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer", "minimum": 5, "maximum": 3}}}),
    ("/v1/chat/completions", "tools",
     [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "strange"}}}]),
    ("/v1/responses", "text", {"format": {"type": "json_schema", "name": "n", "schema": {"type": "strange"}}}),
    ("/v1/messages", "output_config", {"format": {"type": "json_schema", "schema": {"type": "strange"}}}),
    ("/api/chat", "format", {"type": "strange"}),
])  # fmt: skip
def test_the_error_of_a_form_names_its_field(server, path, field, wrong):
    messages = [{"role": "user", "content": "A fox?"}]
    body = {"model": "chat", "max_tokens": 8, "messages": messages, field: wrong}
    if path == "/v1/completions":
        body = {"prompt": "A fox", field: wrong}
    if path == "/v1/responses":
        body = {"input": "A fox?", field: wrong}
    if path == "/api/chat":
        body = {"model": "chat", "messages": messages, "stream": False, field: wrong}
    answer = server.post(path, body)
    assert answer.status_code == 400, answer.text
    assert field in answer.text
    if path.startswith("/v1/c"):
        assert answer.json()["error"]["param"].startswith(field)
