"""Embeddings, reranking, labels and tokens over HTTP, by the clients of each interface and by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cohere
import httpx
import numpy as np
import ollama
import openai
import pytest

import multihead
from multihead import CrossEncoder, SentenceEncoder
from multihead.pipelines.decision import systemone
from multihead.serving.settings import ModelSettings, ServerSettings
from tests.serving.conftest import RunningServer, running

TEXTS = ["The quick brown fox jumps.", "A dog", "Schöne Grüße aus München!", "the lazy dog doesn't mind"]
LONG = "the lazy dog " * 20  # more than the 24 tokens of the tiny models


@pytest.fixture(scope="module")
def encoder(task_models: dict[str, Path]) -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(task_models["encoder"], dtype="float32")


@pytest.fixture(scope="module")
def expected(encoder: SentenceEncoder) -> np.ndarray:
    return encoder.encode(TEXTS)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def client(task_server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{task_server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def v1(task_server: RunningServer) -> cohere.Client:
    return cohere.Client("none", base_url=task_server.url)


@pytest.fixture(scope="module")
def v2(task_server: RunningServer) -> cohere.ClientV2:
    return cohere.ClientV2("none", base_url=task_server.url)


class TestOpenAI:
    @pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
    def test_embeddings_are_those_of_the_encoder(self, client, expected, options):
        answer = client.embeddings.create(model="encoder", input=TEXTS, **options)
        close([each.embedding for each in answer.data], expected)
        assert [each.index for each in answer.data] == [0, 1, 2, 3]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 20

    def test_ids_are_read_as_they_are(self, client, encoder, expected):
        ids = encoder.tokenizer(TEXTS)["input_ids"]
        close([each.embedding for each in client.embeddings.create(model="encoder", input=ids).data], expected)
        close(client.embeddings.create(model="encoder", input=ids[1]).data[0].embedding, expected[1])

    def test_fewer_dimensions_have_length_1_again(self, client, encoder):
        found = client.embeddings.create(model="encoder", input=TEXTS, dimensions=3)
        expected = encoder.encode(TEXTS, truncate_dim=3, normalize_embeddings=True)
        close([each.embedding for each in found.data], expected)

    def test_a_model_of_16_bits_gives_length_1(self, task_models):
        """The length itself is computed in float32: bfloat16 would be 0.4 % off."""
        model = ModelSettings(source=str(task_models["encoder"]), name="encoder", precision="bfloat16")
        with running(ServerSettings(models=(model,))) as server:
            data = server.post("/v1/embeddings", {"input": TEXTS}).json()["data"]
        assert [sum(x * x for x in each["embedding"]) for each in data] == pytest.approx([1] * len(TEXTS), abs=1e-6)

    def test_prompts(self, client, encoder):
        found = client.embeddings.create(model="encoder", input=TEXTS, extra_body={"input_type": "search_query"})
        close([each.embedding for each in found.data], encoder.encode(TEXTS, prompt_name="query"))
        found = client.embeddings.create(model="encoder", input=TEXTS, extra_body={"prompt_name": "document"})
        close([each.embedding for each in found.data], encoder.encode(TEXTS, prompt_name="document"))

    def test_long_texts_are_refused_unless_they_may_be_cut(self, client, encoder):
        with pytest.raises(openai.BadRequestError, match=r"Input 1 has \d+ tokens.* at most 24") as refused:
            client.embeddings.create(model="encoder", input=["A dog", LONG])
        assert refused.value.code == "context_length_exceeded"
        cut = client.embeddings.create(model="encoder", input=LONG, extra_body={"truncate_prompt_tokens": -1})
        close(cut.data[0].embedding, encoder.encode(LONG))
        left = client.embeddings.create(
            model="encoder", input=LONG, extra_body={"truncate_prompt_tokens": 8, "truncation_side": "left"}
        )
        assert left.usage.prompt_tokens == 8

    def test_a_decoder_gives_the_mean_of_its_states(self, client, task_server, chat_model):
        pipe = multihead.pipeline("text-generation", chat_model, dtype="float32")
        own = multihead.pipeline("sentence-similarity", pipe.model, pipe.tokenizer).encoder
        found = client.embeddings.create(model="chat", input=TEXTS)
        close([each.embedding for each in found.data], own.encode(TEXTS))

    BAD = [
        ({"input": ""}, "empty"), ({"input": []}, "not empty"), ({"input": ["a", ""]}, "Input 1 is empty"),
        ({"input": None}, "text"), ({"input": {"text": "a"}}, "text"), ({"input": ["a", 3]}, r"input\[1\]"),
        ({"input": [1, "a"]}, "token ids"), ({"input": [[1], []]}, "Input 1 is empty"), ({"input": [True]}, "truth"),
        ({"input": [10**9]}, "1000000000"), ({"input": [-1]}, "-1"), ({"input": ["a"] * 10_000}, "10000 inputs"),
        ({"input": "a", "dimensions": 7}, "from 1 to 6"), ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 1.5}, "dimensions"), ({"input": "a", "encoding_format": "hex"}, "base64"),
        ({"input": "a", "embed_dtype": "int8"}, "embed_dtype"), ({"input": "a", "late": 1}, "late"),
        ({"input": "a", "messages": []}, "messages"), ({"input": "a", "prompt_name": "nope"}, "query"),
        ({"input": "a", "input_type": "nope"}, "search_query"), ({"input": "a", "truncate_prompt_tokens": -2}, "-1"),
        ({"input": "a", "model": "nope"}, "nope"), ({"input": "a", "model": "translator"}, "translator"),
        ({"input": [5], "prompt_name": "query"}, "prompt_name"),
        ({"input": [[5]], "add_special_tokens": False}, "add_special_tokens"),
        ({"input": "a", "prompt_name": "query", "input_type": "search_query"}, "input_type"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"input": "a", "truncate_prompt_tokens": 2}, "leaves nothing"),
        ({}, "input"), (b"", "JSON"), (b"{", "JSON"), (b'{"input": NaN}', "JSON"), (b"\xff", "JSON"),
        (b'{"input": "\\ud800"}', "JSON"), (b"[" * 100_000, "JSON"), (b'["a"]', ""), (b'"a"', ""), (b"null", ""),
    ]  # fmt: skip

    @pytest.mark.parametrize(("body", "text"), BAD, ids=lambda value: str(value)[:40])
    def test_what_is_wrong_is_named(self, task_server, body, text):
        answer = task_server.post("/v1/embeddings", body)
        assert answer.status_code in (400, 404)
        assert text in answer.json()["error"]["message"] or (httpx.codes.is_error(answer.status_code) and not text) or (
            __import__("re").search(text, answer.json()["error"]["message"])
        )  # fmt: skip


class TestCohere:
    def test_rerank(self, v1, v2, task_models):
        pairs = CrossEncoder.from_pretrained(task_models["reranker"], dtype="float32")
        scores = pairs.predict([("dog", text) for text in TEXTS])
        order = np.argsort(-scores)
        found = v2.rerank(model="reranker", query="dog", documents=TEXTS, top_n=3)
        assert [each.index for each in found.results] == list(order[:3])
        close([each.relevance_score for each in found.results], scores[order[:3]])
        old = v1.rerank(
            model="reranker", query="dog", documents=[{"text": text} for text in TEXTS], return_documents=True
        )
        assert [each.document.text for each in old.results] == [TEXTS[number] for number in order]

    def test_long_documents_are_cut(self, v2, encoder):
        whole = v2.rerank(model="encoder", query="dog", documents=[LONG, "dog"])
        cut = v2.rerank(model="encoder", query="dog", documents=[LONG, "dog"], max_tokens_per_doc=1)
        (ids,) = encoder.tokenizer(["dog"])["input_ids"]
        assert whole.meta.tokens.input_tokens == 2 * len(ids) + 24
        assert cut.meta.tokens.input_tokens == len(ids) + 2 * 3  # a token between two special ones

    def test_embed(self, v1, v2, encoder):
        found = v2.embed(
            model="encoder", texts=TEXTS, input_type="search_document", embedding_types=["float", "ubinary", "base64"]
        )
        own = encoder.encode(TEXTS, prompt_name="document")
        close(found.embeddings.float_, own)
        assert found.embeddings.ubinary == multihead.quantize_embeddings(own, "ubinary").tolist()
        close(np.frombuffer(base64.b64decode(found.embeddings.base64[1]), "<f4"), own[1])
        close(v1.embed(model="encoder", texts=TEXTS).embeddings, encoder.encode(TEXTS))

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"embedding_types": ["int8"]}, "ranges"), ({"embedding_types": ["x"]}, "takes"),
            ({"images": ["x"]}, "images"), ({"texts": None}, "texts"), ({"input_type": "image"}, "input_type"),
            ({"truncate": "NONE", "texts": [LONG]}, "at most 24"),
        ],
    )  # fmt: skip
    def test_what_is_not_computed_is_named(self, v2, options, text):
        body = {"model": "encoder", "texts": TEXTS, "input_type": "search_query", **options}
        with pytest.raises(cohere.BadRequestError) as refused:
            v2.embed(**body)
        assert text in refused.value.body["message"]

    def test_tokens(self, v1):
        found = v1.tokenize(text="the dog", model="encoder", offline=False)
        assert v1.detokenize(tokens=found.tokens, model="encoder", offline=False).text == "the dog"
        with pytest.raises(cohere.BadRequestError, match="99999"):
            v1.detokenize(tokens=[5, 99999], model="encoder", offline=False)


class TestOllama:
    def test_embed(self, task_server, encoder, expected):
        client = ollama.Client(task_server.url)
        close(client.embed("encoder", TEXTS).embeddings, expected)
        close(client.embed("encoder", LONG).embeddings[0], encoder.encode(LONG))
        options = {"num_ctx": 4}
        assert client.embed("encoder", LONG, options=options).prompt_eval_count == 4
        assert client.embed("encoder", "dog", options=options, truncate=False).prompt_eval_count == 3
        with pytest.raises(ollama.ResponseError, match="at most 4"):
            client.embed("encoder", LONG, options=options, truncate=False)
        close(client.embeddings("encoder", "A dog").embedding, expected[1])
        with pytest.raises(ollama.ResponseError, match="at most 24"):
            client.embed("encoder", LONG, truncate=False)
        assert client.embed("encoder", LONG, options={"num_ctx": 8}, keep_alive="5m").prompt_eval_count == 8
        with pytest.raises(ollama.ResponseError, match=r"options.top_k"):
            client.embed("encoder", "A dog", options={"top_k": 8})


class TestTextEmbeddingsInference:
    def ask(self, server: RunningServer, path: str, **body: Any) -> Any:
        answer = server.post(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def test_embed(self, task_server, expected, encoder):
        close(self.ask(task_server, "/embed", inputs=TEXTS), expected)
        close(self.ask(task_server, "/embed", inputs="A dog"), expected[1:2])
        raw = self.ask(task_server, "/embed", inputs=TEXTS, normalize=False, dimensions=4, prompt_name="query")
        close(raw, encoder.encode(TEXTS, prompt_name="query", truncate_dim=4))
        close(self.ask(task_server, "/embed", inputs=LONG, truncate=True)[0], encoder.encode(LONG))

    def test_headers_tell_times(self, task_server):
        headers = task_server.post("/embed", {"inputs": "A dog"}).headers
        assert headers["x-compute-characters"] == "5"
        assert {f"x-{name}-time" for name in ("compute", "total", "tokenization", "queue", "inference")} <= set(headers)

    def test_hidden_states(self, task_server, encoder):
        states = encoder.encode(TEXTS, output_value="token_embeddings")
        for found, own in zip(self.ask(task_server, "/embed_all", inputs=TEXTS), states, strict=True):
            close(found, own)

    def test_predict(self, task_server, classifier):
        pipe = multihead.pipeline("text-classification", classifier, dtype="float32", top_k=None)
        own = pipe("A dog")
        found = self.ask(task_server, "/predict", inputs="A dog", model="labels")
        assert [each["label"] for each in found] == [each["label"] for each in own]
        close([each["score"] for each in found], [each["score"] for each in own])
        pair = self.ask(
            task_server, "/predict", inputs=[["A dog"], ["A dog", "a fox"]], model="labels", raw_scores=True
        )
        logits = pipe({"text": "A dog", "text_pair": "a fox"}, function_to_apply="none")
        close([each["score"] for each in pair[1]], [each["score"] for each in logits])

    def test_rerank(self, task_server, task_models):
        pairs = CrossEncoder.from_pretrained(task_models["reranker"], dtype="float32", activation_fn=lambda x: x)
        logits = pairs.predict([("dog", text) for text in TEXTS])
        found = self.ask(task_server, "/rerank", query="dog", texts=TEXTS, raw_scores=True, return_text=True)
        assert [each["text"] for each in found] == [TEXTS[number] for number in np.argsort(-logits)]
        close([each["score"] for each in found], sorted(logits, reverse=True))
        scaled = self.ask(task_server, "/rerank", query="dog", texts=TEXTS)
        close([each["score"] for each in scaled], 1 / (1 + np.exp(-np.array(sorted(logits, reverse=True)))))

    def test_similarity(self, task_server, encoder, expected):
        found = self.ask(task_server, "/similarity", inputs={"source_sentence": TEXTS[0], "sentences": TEXTS[1:]})
        close(found, encoder.similarity(expected[:1], expected[1:])[0])

    def test_tokens(self, task_server, encoder):
        text = "Schöne Grüße"
        (tokens,) = self.ask(task_server, "/tokenize", inputs=text)
        assert [each["id"] for each in tokens] == encoder.tokenizer(text)["input_ids"]
        assert [each["special"] for each in tokens] == [True, *[False] * (len(tokens) - 2), True]
        assert tokens[1]["text"] == text[tokens[1]["start"] : tokens[1]["stop"]]
        ids = [each["id"] for each in tokens]
        assert self.ask(task_server, "/decode", ids=ids) == [encoder.tokenizer.decode(ids, skip_special_tokens=True)]

    def test_info(self, task_server):
        info = task_server.get("/info").json()
        assert info["model_type"] == {"embedding": {"pooling": "mean"}}
        assert info["max_client_batch_size"] == 300
        assert "classifier" in task_server.get("/info?model=labels").json()["model_type"]

    @pytest.mark.parametrize(
        ("path", "body", "status", "text"),
        [
            ("/embed", {"inputs": ""}, 400, "empty"), ("/embed", {"inputs": LONG}, 422, "at most 24"),
            ("/embed", {"inputs": 3}, 422, "inputs"), ("/embed", {"inputs": "a", "x": 1}, 422, "x"),
            ("/embed", {"inputs": ["a"] * 301}, 422, "301"), ("/embed_sparse", {"inputs": "a"}, 400, "SPLADE"),
            ("/predict", {"inputs": ["a", "b", "c"]}, 422, "2"), ("/rerank", {"query": "a", "texts": []}, 422, "texts"),
            ("/rerank", {"query": "", "texts": ["a"]}, 422, "query"), ("/tokenize", {"inputs": [1]}, 422, "inputs"),
            ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 422, "sentences"),
            ("/predict", {"inputs": "a", "truncation_direction": "Left"}, 422, "truncation_direction"),
            ("/decode", {"ids": [10**9]}, 422, "1000000000"), ("/embed", {"inputs": "a", "model": "nope"}, 404, "nope"),
        ],
    )  # fmt: skip
    def test_errors_have_its_shape(self, task_server, path, body, status, text):
        answer = task_server.post(path, body)
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error", "error_type"}
        assert text in answer.json()["error"]


class TestPooling:
    def test_classify(self, task_server, classifier):
        pipe = multihead.pipeline("text-classification", classifier, dtype="float32", top_k=None)
        found = task_server.post("/classify", {"model": "labels", "input": TEXTS}).json()
        for row, own in zip(found["data"], pipe(TEXTS), strict=True):
            scores = {each["label"]: each["score"] for each in own}
            close(row["probs"], [scores[name] for name in ("bad", "fair", "good")])
            assert row["label"] == own[0]["label"]
            assert row["num_classes"] == 3

    def test_score(self, task_server, task_models):
        pairs = CrossEncoder.from_pretrained(task_models["reranker"], dtype="float32")
        found = task_server.post("/score", {"text_1": "dog", "text_2": TEXTS}).json()
        close([each["score"] for each in found["data"]], pairs.predict([("dog", text) for text in TEXTS]))
        both = {"queries": TEXTS, "documents": TEXTS[::-1], "truncate_prompt_tokens": -1}
        found = task_server.post("/v1/score", both).json()
        expected = pairs.predict(list(zip(TEXTS, TEXTS[::-1], strict=True)))
        close([each["score"] for each in found["data"]], expected)
        assert task_server.post("/score", {"text_1": ["a", "b"], "text_2": "c"}).status_code == 400

    def test_vectors_of_any_kind(self, task_server, encoder, expected):
        states = task_server.post("/pooling", {"input": "A dog"}).json()["data"][0]["data"]
        close(states, encoder.encode("A dog", output_value="token_embeddings"))
        packed = task_server.post("/pooling", {"input": "A dog", "task": "embed", "encoding_format": "base64"}).json()
        close(np.frombuffer(base64.b64decode(packed["data"][0]["data"]), "<f4"), expected[1])

    def test_tokens(self, task_server, chat_model):
        tokenizer = multihead.AutoTokenizer.from_pretrained(chat_model)
        found = task_server.post("/tokenize", {"model": "chat", "prompt": "Hello", "return_token_strs": True}).json()
        assert found["tokens"] == tokenizer("Hello")["input_ids"]
        assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
        for name, value in {"tools": [], "add_generation_prompt": False, "continue_final_message": True}.items():
            refused = task_server.post("/tokenize", {"model": "chat", "prompt": "Hello", name: value})
            assert refused.json()["error"]["param"] == name
        assert task_server.post("/tokenize", {"prompt": "a", "add_generation_prompt": True}).status_code == 200
        assert found["max_model_len"] == 512
        text = task_server.post("/detokenize", {"model": "chat", "tokens": found["tokens"]}).json()["prompt"]
        assert text == "Hello"
        messages = [{"role": "user", "content": "Hello"}]
        chat = task_server.post("/tokenize", {"model": "chat", "messages": messages}).json()["tokens"]
        assert chat == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    def test_the_tokenizer_is_described(self, task_server, chat_model):
        own = multihead.AutoTokenizer.from_pretrained(chat_model)
        found = task_server.get("/tokenizer_info?model=chat").json()
        told = (found["eos_token"], found["chat_template"], found["bos_token"], found["model_max_length"])
        assert told == (own.eos_token, own.chat_template, own.bos_token, 512)
        assert task_server.get("/tokenizer_info?model=encoder").json()["cls_token"] == "[CLS]"
        assert task_server.get("/tokenizer_info?model=nope").status_code == 404

    def test_tokens_in_the_shape_of_llama_cpp(self, task_server, encoder):
        text = "a dog 猫"
        plain, special = encoder.tokenizer(text, add_special_tokens=False), encoder.tokenizer(text)
        asked = {"model": "encoder", "content": text}
        assert task_server.post("/tokenize", asked).json() == {"tokens": plain["input_ids"]}
        found = task_server.post("/tokenize", {**asked, "add_special": True}).json()["tokens"]
        assert found == special["input_ids"]
        asked["model"] = "chat"
        tokens = task_server.post("/tokenize", {**asked, "with_pieces": True}).json()["tokens"]
        pieces = [one["piece"] if isinstance(one["piece"], list) else list(one["piece"].encode()) for one in tokens]
        assert bytes(byte for piece in pieces for byte in piece) == text.encode()
        ids = [one["id"] for one in tokens]
        assert task_server.post("/detokenize", {"model": "chat", "tokens": ids}).json()["content"] == text
        assert task_server.post("/tokenize", {**asked, "parse_special": False}).status_code == 400


class TestDecisions:
    QUESTIONS = [
        {"type": "predicate", "instructions": "about a dog", "name": "dog"},
        {"type": "choice", "instructions": "animal", "choices": [{"value": "fox"}, {"value": "dog"}]},
        {"type": "score", "instructions": "speed", "levels": [{"label": "slow"}, {"label": "quick"}]},
    ]

    @pytest.mark.parametrize("model", ["judge", "encoder", "reranker", "chat"])
    def test_answers_of_the_official_client_are_those_of_the_pipeline(self, client, task_models, chat_model, model):
        folder = {**task_models, "chat": chat_model}[model]
        questions = self.QUESTIONS[model == "chat" :]  # whose tokenizer has no Yes
        own = multihead.pipeline("decision", folder, dtype="float32")({"input": "the fox", "questions": questions})
        found = client.decisions.create(model=model, input="the fox", questions=questions)
        assert found.model == model
        for one, other in zip(found.answers, own["answers"], strict=True):
            assert one.type == other["type"]
            if one.type == "predicate":
                close(one.probability, other["probability"])
            else:
                expected = [row["probability"] for row in other["probabilities"]]
                close([row.probability for row in one.probabilities], expected)
        assert found.usage.total_tokens == own.metadata.tokens

    def test_system_one(self, task_server, chat_model):
        questions = {"dog": {"type": "choice", "instructions": "What is it?", "criteria": {"dog": None, "fox": None}}}
        answer = task_server.post("/v1/systemone", {"model": "chat", "state": "the fox", "questions": questions})
        read = systemone.read_request({"state": "the fox", "questions": questions})
        own = multihead.pipeline("decision", chat_model, dtype="float32")(read.input, scoring="labels")
        expected = read.answer(own["answers"], own.metadata.tokens)
        found, own_answer = answer.json()["answers"]["dog"], expected["answers"]["dog"]
        close(list(found["probabilities"].values()), list(own_answer["probabilities"].values()))
        assert answer.json()["usage"] == expected["usage"]

    def test_what_is_wrong_is_named(self, client, task_server):
        with pytest.raises(openai.BadRequestError) as refused:
            client.decisions.create(model="judge", input="x", questions=[{"type": "choice", "instructions": "x"}])
        assert refused.value.param == "questions[0].choices"
        with pytest.raises(openai.BadRequestError, match="chat cannot answer this"):
            client.decisions.create(model="chat", input="x", questions=self.QUESTIONS)
        with pytest.raises(openai.BadRequestError, match="safety_identifier"):
            client.decisions.create(model="judge", input="x", questions=self.QUESTIONS, safety_identifier="me")
        answer = task_server.post("/v1/systemone", {"state": "x", "questions": {"a": {"type": "x"}}})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "questions", "a", "type"]


class TestBatches:
    """Requests share forward passes, and no request waits for all of a long one."""

    def test_answers_are_those_of_each_request_alone(self, task_server, encoder):
        texts = [f"{TEXTS[n % 4]} {n}"[: 10 + n % 30] for n in range(200)]
        expected = encoder.encode(texts)

        async def ask_all() -> list[Any]:
            async with httpx.AsyncClient(base_url=task_server.url, timeout=60) as client:
                bodies = [{"input": texts[n : n + 1 + n % 5], "model": "encoder"} for n in range(0, 195, 3)]
                return await asyncio.gather(*(client.post("/v1/embeddings", json=body) for body in bodies))

        batcher = task_server.state.models.loaded["encoder"].batcher
        before = batcher.stats.batches
        answers = asyncio.run(ask_all())
        for n, answer in zip(range(0, 195, 3), answers, strict=True):
            found = [each["embedding"] for each in answer.json()["data"]]
            close(found, expected[n : n + 1 + n % 5])
        assert batcher.stats.batches - before < len(answers)
        assert batcher.stats.waiting == 0

    def test_a_request_that_fails_fails_alone(self, task_server):
        async def ask_all() -> list[Any]:
            async with httpx.AsyncClient(base_url=task_server.url, timeout=60) as client:
                texts: Sequence[Any] = ["A dog", LONG, "", [10**9], "a fox"]
                return await asyncio.gather(
                    *(client.post("/v1/embeddings", json={"input": text, "model": "encoder"}) for text in texts)
                )

        assert [each.status_code for each in asyncio.run(ask_all())] == [200, 400, 400, 400, 200]

    def test_clients_that_go_leave_nothing_behind(self, task_server):
        def go() -> None:
            body = json.dumps({"input": ["the lazy dog"] * 300, "model": "encoder"})
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{task_server.url}/v1/embeddings", content=body, timeout=httpx.Timeout(60, read=0.001))

        threads = [threading.Thread(target=go) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert task_server.post("/v1/embeddings", {"input": "A dog", "model": "encoder"}).status_code == 200
        stats = task_server.state.models.loaded["encoder"].batcher.stats
        for _ in range(200):
            if not stats.waiting:
                break
            threading.Event().wait(0.02)
        assert (stats.waiting, stats.characters) == (0, 0)
