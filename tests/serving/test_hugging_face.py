"""Hugging Face's inference interface: every method for texts of `InferenceClient`, and every task of the library."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import BadRequestError, ValidationError

import multihead
from multihead.pipelines.catalog import TASKS
from multihead.serving.models.choice import fit_languages
from multihead.serving.models.served_model import ServedModel
from multihead.serving.models.tasks import main_task, task_by_name
from multihead.serving.settings import ModelSettings, ServerSettings
from tests.serving.conftest import RunningServer

CONTEXT = "The quick brown fox jumps over the lazy dog."
QUESTION = "what jumps?"
CHOICES = [{"value": "fox"}, {"value": "house"}]


def pipe(task: str, folder: Path, **options: Any) -> Any:
    return multihead.pipeline(task, folder, dtype="float32", **options)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=2e-6)


def wait(done: Any) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture(scope="module")
def client(task_server: RunningServer):
    """Return a client of one model, as `InferenceClient(model=URL)` of a user."""
    return lambda name: InferenceClient(model=f"{task_server.url}/models/{name}", token="none")


def test_each_pair_of_languages_is_asked_of_its_own_model(task_server):
    own = {"a": "translation_en_to_pt", "b": "translation_pt_to_en", "c": "translation", "d": "translation_en_to_de"}
    found = {task: fit_languages(own, f"translation{task}") for task in ("", "_pt_to_en", "_en_to_de", "_en_to_fr")}
    assert found == {
        "": ["a", "b", "c", "d"], "_pt_to_en": ["b", "c"], "_en_to_de": ["d", "c"], "_en_to_fr": ["c"]
    }  # fmt: skip
    body = {"inputs": "the dog", "parameters": {"max_new_tokens": 2}}
    for code in ("de", "fr"):
        assert task_server.post(f"/models/chat/pipeline/translation_en_to_{code}", body).status_code == 200
        pipe = task_server.state.models.loaded["chat"].pipeline(f"translation_en_to_{code}")
        assert pipe.resolve_options().tgt_lang == code


class TestClient:
    """What each method returns is what the pipeline returns."""

    def test_feature_extraction(self, client, task_models, bert):
        encoder = multihead.SentenceEncoder.from_pretrained(task_models["encoder"], dtype="float32")
        texts = ["A dog", "the fox"]
        close(client("encoder").feature_extraction(texts), encoder.encode(texts))
        close(client("encoder").feature_extraction("A dog"), encoder.encode(["A dog"]))
        named = client("encoder").feature_extraction(texts, prompt_name="query", normalize=False, dimensions=3)
        close(named, encoder.encode(texts, prompt_name="query", truncate_dim=3))
        states = client("mask/pipeline/feature-extraction").feature_extraction("A dog")
        close(states, pipe("feature-extraction", bert)("A dog"))

    def test_sentence_similarity(self, client, task_models):
        own = pipe("sentence-similarity", task_models["encoder"])
        item = {"source_sentence": "dog", "sentences": ["fox", "the dog"]}
        close(client("encoder").sentence_similarity("dog", ["fox", "the dog"]), own(item))

    def test_text_classification(self, client, classifier):
        own = pipe("text-classification", classifier, top_k=2)(CONTEXT)
        found = client("labels").text_classification(CONTEXT, top_k=2)
        assert [each.label for each in found] == [each["label"] for each in own]
        close([each.score for each in found], [each["score"] for each in own])
        assert len(client("labels").text_classification(CONTEXT)) == 3
        logits = client("labels").text_classification(CONTEXT, function_to_apply="none")
        raw = pipe("text-classification", classifier)(CONTEXT, top_k=None, function_to_apply="none")
        close([each.score for each in logits], [each["score"] for each in raw])

    def test_zero_shot_classification(self, client, task_models):
        own = pipe("zero-shot-classification", task_models["judge"])
        for options in ({}, {"multi_label": True}, {"hypothesis_template": "the {} dog"}):
            expected = own(CONTEXT, ["fox", "house"], **options)
            found = client("judge").zero_shot_classification(CONTEXT, ["fox", "house"], **options)
            assert [each.label for each in found] == expected["labels"]
            close([each.score for each in found], expected["scores"])

    def test_token_classification(self, client, task_models):
        own = pipe("token-classification", task_models["tagger"])
        for strategy in ("none", "simple", "max"):
            found = client("tagger").token_classification(CONTEXT, aggregation_strategy=strategy)
            expected = own(CONTEXT, aggregation_strategy=strategy)
            assert [(each.start, each.end, each.word) for each in found] == [
                (each["start"], each["end"], each["word"]) for each in expected
            ]
        assert client("tagger").token_classification(CONTEXT)[0].entity_group  # the hub's default joins tokens

    def test_question_answering(self, client, task_models):
        own = pipe("question-answering", task_models["reader"])
        item = {"question": QUESTION, "context": CONTEXT}
        found = client("reader").question_answering(question=QUESTION, context=CONTEXT)
        expected = own(item)
        assert (found.answer, found.start, found.end) == (expected["answer"], expected["start"], expected["end"])
        several = client("reader").question_answering(QUESTION, CONTEXT, top_k=3, max_answer_len=4)
        assert [each.answer for each in several] == [each["answer"] for each in own(item, top_k=3, max_answer_len=4)]

    def test_fill_mask(self, client, bert):
        own = pipe("fill-mask", bert)
        found = client("mask").fill_mask("The [MASK] dog", top_k=3)
        assert [dict(each) for each in found] == [
            {**dict(each), **{k: v for k, v in row.items() if k != "score"}}
            for each, row in zip(found, own("The [MASK] dog", top_k=3), strict=True)
        ]
        assert len(client("mask").fill_mask("The [MASK] dog", targets=["the", "fox"])) == 2

    def test_translation(self, client, marian):
        own = pipe("translation", marian)
        assert client("translator").translation(CONTEXT).translation_text == own(CONTEXT)[0]["translation_text"]
        found = client("translator").translation(
            CONTEXT, truncation="longest_first", generate_parameters={"max_new_tokens": 5, "num_beams": 2}
        )
        expected = own(CONTEXT, truncation=True, max_new_tokens=5, num_beams=2)
        assert found.translation_text == expected[0]["translation_text"]

    def test_summarization(self, client, chat_model):
        own = pipe("summarization", chat_model)
        found = client("chat/pipeline/summarization").summarization(
            CONTEXT * 9, generate_parameters={"max_new_tokens": 8}
        )
        assert found.summary_text == own(CONTEXT * 9, max_new_tokens=8)[0]["summary_text"]

    def test_table_question_answering(self, client, task_models):
        table = {"fox": ["quick", "lazy"], "dog": ["1", "2"]}
        own = pipe("table-question-answering", task_models["encoder"])
        found = client("encoder").table_question_answering(table, "dog where fox is lazy?", padding="longest")
        expected = own({"table": table, "query": "dog where fox is lazy?"})
        assert (found.answer, found.coordinates) == (expected["answer"], [list(at) for at in expected["coordinates"]])

    def test_text_generation(self, client, chat_model):
        own = pipe("text-generation", chat_model)
        expected = own(CONTEXT, max_new_tokens=8, do_sample=False, return_full_text=False)[0]["generated_text"]
        ask = client("chat").text_generation
        assert ask(CONTEXT, max_new_tokens=8) == expected
        assert ask(CONTEXT, max_new_tokens=8, return_full_text=True) == CONTEXT + expected
        assert ask(CONTEXT, max_new_tokens=8, stop=[expected[3]]) == expected[: expected.index(expected[3]) + 1]
        drawn = [ask(CONTEXT, max_new_tokens=8, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]

    def test_details_of_tokens(self, client, chat_model):
        ask = client("chat").text_generation
        found = ask(CONTEXT, max_new_tokens=8, details=True, decoder_input_details=True, top_n_tokens=3)
        details = found.details
        assert "".join(each.text for each in details.tokens) == found.generated_text
        assert (details.finish_reason, details.generated_tokens, len(details.tokens)) == ("length", 8, 8)
        assert all(each.logprob <= 0 for each in details.tokens)
        for token, top in zip(details.tokens, details.top_tokens, strict=True):
            assert len(top) == 3
            assert top[0]["id"] == token.id  # greedy
        tokenizer = multihead.AutoTokenizer.from_pretrained(chat_model)
        assert [each.id for each in details.prefill] == tokenizer(CONTEXT)["input_ids"]

    def test_streams_tell_what_whole_answers_have(self, client):
        ask = client("chat").text_generation
        whole = ask(CONTEXT, max_new_tokens=8, details=True)
        parts = list(ask(CONTEXT, max_new_tokens=8, details=True, stream=True))
        assert [each.token.id for each in parts] == [each.id for each in whole.details.tokens]
        assert "".join(each.token.text for each in parts) == parts[-1].generated_text == whole.generated_text
        assert parts[-1].details.finish_reason == "length"
        assert all(each.details is None for each in parts[:-1])
        assert "".join(ask(CONTEXT, max_new_tokens=8, stream=True)) == whole.generated_text

    def test_chat_completion(self, client, task_server):
        messages = [{"role": "user", "content": "Hello"}]
        one = client("chat").chat_completion(messages, max_tokens=4, temperature=0)
        other = InferenceClient(base_url=task_server.url).chat_completion(
            messages, model="chat", max_tokens=4, temperature=0
        )
        assert one.choices[0].message.content == other.choices[0].message.content
        assert one.model == "chat"
        asking = client("chat")  # which closes its streams when it goes
        parts = asking.chat_completion(messages, max_tokens=4, temperature=0, stream=True)
        text = "".join(each.choices[0].delta.content or "" for each in parts if each.choices)
        assert text == one.choices[0].message.content

    async def _asynchronous(self, url: str) -> Any:
        return await AsyncInferenceClient(model=f"{url}/models/labels").text_classification(CONTEXT)

    def test_asynchronous_client(self, task_server):
        import asyncio

        assert len(asyncio.run(self._asynchronous(task_server.url))) == 3

    def test_an_address_alone_finds_the_model_by_the_inputs(self, task_server):
        client = InferenceClient(base_url=task_server.url)
        assert len(client.sentence_similarity("dog", ["fox", "dog"])) == 2
        assert client.question_answering(QUESTION, CONTEXT).answer
        assert len(client.zero_shot_classification(CONTEXT, ["fox", "house"])) == 2
        assert client.feature_extraction("dog").shape == (1, 6)
        assert client.health_check(task_server.url) if client.provider else True
        assert "model_id" in InferenceClient(provider="hf-inference").get_endpoint_info(model=task_server.url)

    def test_errors_are_those_that_the_client_knows(self, client):
        with pytest.raises(ValidationError, match="stop has at most 16"):
            client("chat").text_generation("x", stop=["a"] * 17)
        with pytest.raises(BadRequestError, match="has no mask"):
            client("mask").fill_mask("no mask here")


class TestTasks:
    """Every task of the catalog is reached by its name."""

    ITEMS = {
        "text-classification": (CONTEXT, {}, "labels"),
        "zero-shot-classification": (CONTEXT, {"candidate_labels": "fox, house"}, "judge"),
        "token-classification": (CONTEXT, {}, "tagger"),
        "question-answering": ({"question": QUESTION, "context": CONTEXT}, {}, "reader"),
        "retrieval-augmented-generation": (
            {"question": QUESTION, "documents": [CONTEXT, "A house."]}, {"min_score": 0.0}, "reader",
        ),
        "table-question-answering": ({"table": [{"fox": "quick"}], "query": "fox?"}, {}, "encoder"),
        "fill-mask": ("The [MASK] dog", {}, "mask"),
        "summarization": (CONTEXT * 9, {"max_new_tokens": 4}, "chat"),
        "translation": (CONTEXT, {"max_new_tokens": 4}, "translator"),
        "text2text-generation": (CONTEXT, {"max_new_tokens": 4}, "translator"),
        "text-generation": (CONTEXT, {"max_new_tokens": 4, "num_beams": 2}, "chat"),
        "feature-extraction": ("dog", {}, "encoder"),
        "sentence-similarity": ({"source_sentence": "dog", "sentences": ["fox"]}, {}, "encoder"),
        "decision": (
            {"input": CONTEXT, "questions": [{"type": "choice", "instructions": "it", "choices": CHOICES}]}, {}, "chat",
        ),
        "text-ranking": ({"query": "dog", "documents": ["fox", "dog"]}, {"top_k": 1}, "reranker"),
    }  # fmt: skip

    def ask(self, server: RunningServer, path: str, inputs: Any, **parameters: Any) -> Any:
        answer = server.post(path, {"inputs": inputs, "parameters": parameters})
        assert answer.status_code == 200, answer.text
        return answer

    @pytest.mark.parametrize("task", list(TASKS))
    def test_by_name_with_and_without_a_model(self, task_server, task):
        inputs, parameters, model = self.ITEMS[task]
        chosen = self.ask(task_server, f"/pipeline/{task}", inputs, **parameters)
        named = self.ask(task_server, f"/models/{model}/pipeline/{task}", inputs, **parameters)
        assert chosen.json() == named.json()
        several = self.ask(task_server, f"/models/{model}/pipeline/{task}", [inputs, inputs], **parameters)
        assert len(several.json()) == 2

    def test_several_texts_are_answered_as_by_the_pipeline(self, task_server, marian):
        texts = ["the dog", CONTEXT, "fox"]
        assert self.ask(task_server, "/models/translator", texts).json() == pipe("translation", marian)(texts)

    def test_notices_are_in_a_header(self, task_server):
        answer = self.ask(task_server, "/models/encoder", {"query": "dog", "documents": ["fox", "", "dog"]})
        assert [row["corpus_id"] for row in answer.json()] != []
        (notice,) = json.loads(answer.headers["x-multihead-notices"])
        assert notice["input"] == 0
        assert "documents 1" in notice["text"]
        many = self.ask(task_server, "/models/labels", ["\u4e00 dog"] * 200)
        notices = json.loads(many.headers["x-multihead-notices"])
        assert len(many.headers["x-multihead-notices"]) <= 4096
        assert notices[-1]["more"] == 200 - (len(notices) - 1)

    def test_what_generates_for_a_client_that_has_gone_ends(self, task_server):
        self.ask(task_server, "/models/chat", "dog", max_new_tokens=1)
        engine = task_server.state.models.loaded["chat"].engine
        own = {"max_new_tokens": 300, "min_new_tokens": 300, "num_beams": 2}
        content = json.dumps({"inputs": [CONTEXT] * 200, "parameters": own}).encode()
        with socket.create_connection(task_server.url.removeprefix("http://").split(":")) as client:
            client.sendall(b"POST /models/chat HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            client.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
            wait(lambda: engine.running)
        before = engine.statistics.steps
        wait(lambda: not engine.busy and not task_server.state.models.loaded["chat"].users)
        assert engine.statistics.steps - before < 300, "not even the first texts were ended"
        assert self.ask(task_server, "/models/chat", "dog", max_new_tokens=1).status_code == 200

    ASKED = {"question": "a", "context": "b"}
    BAD = [
        ("/models/labels", {"inputs": "a", "parameters": {"topk": 1}}, 400, "topk"),
        ("/models/labels", {"inputs": "a", "parameters": {"top_k": "three"}}, 400, "top_k"),
        ("/models/labels", {"inputs": "a", "parameters": {"truncation": 1}}, 400, "truncation"),
        ("/models/labels", {"inputs": "a", "parameters": {"calibration": "/etc/passwd"}}, 400, "calibration"),
        ("/models/labels", {"inputs": "a", "parameters": {"batch_size": 9}}, 400, "batch_size"),
        ("/models/labels", {"inputs": "a", "options": {"x": 1}}, 400, "options.x"),
        ("/models/labels", {"inputs": "a", "x": 1}, 400, "x"), ("/models/labels", {"inputs": []}, 400, "inputs"),
        ("/models/labels", {"inputs": ["a", 3]}, 400, "Input 1"), ("/models/labels", {"inputs": ""}, 400, "empty"),
        ("/models/labels", {"inputs": ["a"] * 10_000}, 400, "10000"), ("/models/labels", {}, 400, "inputs"),
        ("/models/labels", {"inputs": {"text": ["a"]}}, 400, "string"), ("/models/nope", {"inputs": "a"}, 404, "nope"),
        ("/models/labels", {"inputs": "dog " * 99}, 400, "at most 24"),
        ("/pipeline/nope", {"inputs": "a"}, 404, "nope"),
        ("/models/labels", {"inputs": "a", "stream": True}, 400, "labels"),
        ("/models/labels/pipeline/fill-mask", {"inputs": "a"}, 400, "labels"),
        ("/models/encoder", {"inputs": "a", "parameters": {"return_tensors": True}}, 400, "return_tensors"),
        ("/models/encoder", {"inputs": "a", "normalize": "yes"}, 400, "normalize"),
        ("/models/encoder", {"inputs": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ("/models/judge", {"inputs": "a", "parameters": {"candidate_labels": [1]}}, 400, "candidate_labels"),
        (
            "/models/judge",
            {"inputs": "a", "parameters": {"candidate_labels": ["a"], "hypothesis_template": "{:>9999999999}"}},
            400, "hypothesis_template",
        ),
        ("/models/judge", {"inputs": "a"}, 400, "candidate_labels"),
        ("/models/reader", {"inputs": ASKED, "parameters": {"max_seq_len": 10**30}}, 400, "max_seq_len"),
        ("/models/reader", {"inputs": ASKED, "parameters": {"retriever": "/etc"}}, 404, "/etc"),
        ("/models/reader", {"inputs": {"question": "a", "documents": "/etc/passwd"}}, 400, "documents"),
        ("/models/reader", {"inputs": {"question": "a", "documents": [{"id": 1}]}}, 400, "text"),
        ("/pipeline/rag", {"inputs": "a", "parameters": {"documents": "/etc/passwd"}}, 400, "documents"),
        ("/pipeline/rag", {"inputs": "a", "parameters": {"documents": ["a"], "reranker": "/etc"}}, 400, "reranker"),
        ("/models/chat", {"inputs": "a", "parameters": {"stopping_criteria": []}}, 400, "stopping_criteria"),
        ("/models/chat", {"inputs": "a", "parameters": {"num_beams": 10_000}}, 400, "num_beams"),
        ("/models/chat", {"inputs": "a", "parameters": {"best_of": 2}}, 400, "best_of"),
        ("/models/chat", {"inputs": "a", "parameters": {"watermark": True}}, 400, "watermark"),
        ("/models/chat", {"inputs": "a", "parameters": {"max_new_tokens": 10**9}}, 400, "max_new_tokens"),
        ("/models/chat", {"inputs": "a", "parameters": {"num_beams": 2, "max_new_tokens": 10**9}}, 400, "max_new"),
        ("/models/chat", {"inputs": "a", "parameters": {"details": True, "x": 1}}, 400, "x"),
        (
            "/models/chat/pipeline/summarization", {"inputs": "a", "parameters": {"assistant_model": "/etc"}}, 400,
            "assistant_model",
        ),
        ("/models/translator", {"inputs": "a", "parameters": {"generate_parameters": {"x": 1}}}, 400, "x"),
        ("/models/translator", {"inputs": "a", "parameters": {"truncation": "never"}}, 400, "truncation"),
        ("/models/encoder", {"inputs": {"table": "/etc/passwd", "query": "a"}}, 400, "table"),
        ("/models/reader", {"inputs": {**ASKED, "id": 1}}, 400, "inputs.id"),
        ("/models/reader", {"inputs": [ASKED, {**ASKED, "id": 1}]}, 400, "inputs.id"),
        ("/models/labels", {"inputs": {"text": "a", "pair": "b"}}, 400, "inputs.pair"),
        ("/models/encoder", {"inputs": {"query": "a", "documents": ["b"], "top_n": 2}}, 400, "inputs.top_n"),
        ("/models/encoder", {"inputs": {"source_sentence": "a", "sentences": ["b"], "x": 2}}, 400, "inputs.x"),
        ("/models/translator", {"inputs": "a", "parameters": {"tgt_lang": "de"}}, 400, "tgt_lang"),
    ]  # fmt: skip

    @pytest.mark.parametrize(("path", "body", "status", "text"), BAD, ids=lambda value: str(value)[:60])
    def test_what_is_wrong_is_named(self, task_server, path, body, status, text):
        answer = task_server.post(path, body)
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error", "error_type"}
        assert text in answer.text


@pytest.mark.real
class TestRealModels:
    """The models of `multihead serve` without arguments, by their names and by tasks alone."""

    def test_answers(self, real_server: RunningServer):
        def client(name: str) -> InferenceClient:
            return InferenceClient(model=f"{real_server.url}/models/{name}", token="none")

        assert client("en-pt").translation("The house is big.").translation_text == "A casa é grande."
        assert client("sentiment").text_classification("I love it.")[0].label == "positive"
        found = client("answers").question_answering(question="Who wrote it?", context="Ada wrote it in 1843.")
        assert found.answer == "Ada"
        near, far = client("minilm").sentence_similarity("A dog", ["A puppy", "A stock market"])
        assert near > far
        table = {"name": ["Ana", "Bob"], "age": ["30", "40"]}
        assert client("minilm").table_question_answering(table, "What is the sum of age?").answer == "70"
        labels = client("minilm").zero_shot_classification("We won the match.", ["sports", "politics"])
        assert labels[0].label == "sports"
        english = real_server.post("/pipeline/translation_pt_to_en", {"inputs": "A casa é grande."})
        assert english.json()[0]["translation_text"] == "The house is great."
        wrong = real_server.post("/models/en-pt/pipeline/translation_pt_to_en", {"inputs": "A casa é grande."})
        assert "translation_en_to_pt" in wrong.json()["error"]


def test_a_translator_has_the_languages_that_its_files_or_its_name_tell(marian, tmp_path):
    folder = shutil.copytree(marian, tmp_path / "opus")
    settings = folder / "tokenizer_config.json"
    known = {**json.loads(settings.read_text()), "source_lang": None, "target_lang": None}
    settings.write_text(json.dumps(known))
    assert main_task(str(folder)) == "translation"
    settings.write_text(json.dumps({**known, "source_lang": "en", "target_lang": "mul"}))
    assert main_task(str(folder)) == "translation"
    assert task_by_name("translation", ["opus", "en-mul", "de-nl"]) == "translation_de_to_nl"
    settings.write_text(json.dumps({**known, "source_lang": "en", "target_lang": "de"}))
    assert main_task(str(folder)) == "translation_en_to_de"
    served = ServedModel.load(ModelSettings(source=str(folder), name="opus"), ServerSettings())
    try:
        assert served.tasks() == ["translation", "text2text-generation", "feature-extraction"]
        assert served.pipeline("translation_en_to_de").resolve_options().tgt_lang == "de"
    finally:
        served.close()


def test_tasks_are_those_that_a_model_can_answer(task_server):
    disputed = {"zero-shot-classification", "decision", "text-ranking", "fill-mask", "question-answering"}
    found = {
        name: disputed & set(task_server.get(f"/inspect/model/{name}").json()["tasks"])
        for name in ("labels", "judge", "reranker", "translator", "mask")
    }
    assert found["labels"] == found["translator"] == set()
    assert found["judge"] == {"zero-shot-classification", "decision"}
    assert found["reranker"] == {"decision", "text-ranking"}
    assert "fill-mask" in found["mask"]
