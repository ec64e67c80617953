"""Pipelines on tiny checkpoints: the reference's shapes and numbers, in order, and clear refusals."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from multihead import AutoModel, AutoModelForCausalLM, AutoTokenizer, SentenceEncoder, pipeline
from multihead.errors import InvalidInput, MultiheadError, TextTooLong, UnsupportedOption
from multihead.tasks.language import filled
from multihead.tasks.task import batches

TEXTS = ["The fox jumps.", "A dog", "The quick brown fox jumps over the lazy dog.", "", "dog"]
LONG = "the dog and the fox " * 20


def test_classification_gives_the_references_labels_and_scores(classifier):
    ours, theirs = (p("text-classification", str(classifier)) for p in (pipeline, transformers.pipeline))
    for options in ({}, {"top_k": None}, {"top_k": 2}):
        got, expected = ours(TEXTS, **options), theirs(TEXTS, **options)
        for one, other in zip(got, expected, strict=True):
            pairs = zip([one] if "top_k" not in options else one, [other] if "top_k" not in options else other,
                        strict=True)  # fmt: skip
            for mine, reference in pairs:
                assert mine["label"] == reference["label"]
                assert mine["score"] == pytest.approx(reference["score"], abs=1e-5)
    assert [a["label"] for a in ours(TEXTS[0])] == [ours(TEXTS)[0]["label"]]
    assert isinstance(ours(TEXTS[0], top_k=None)[0], dict)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression", "single_label_classification"])
def test_what_the_scores_mean_follows_the_problem(classifier, kind):
    pipe = pipeline("sentiment-analysis", classifier, problem_type=kind)
    scores = {a["label"]: a["score"] for a in pipe(TEXTS[0], top_k=None)}
    inputs = pipe.tokenizer(TEXTS[0], return_tensors="pt")
    logits = pipe.model(**inputs).logits[0]
    means = {"regression": logits, "multi_label_classification": logits.sigmoid()}.get(kind, logits.softmax(-1))
    assert [scores[name] for name in ("bad", "fair", "good")] == pytest.approx(means.tolist(), abs=1e-5)


def test_features_equal_the_references(bert):
    ours, theirs = (p("feature-extraction", str(bert)) for p in (pipeline, transformers.pipeline))
    for one, other in zip(ours(TEXTS), theirs(TEXTS), strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-4, atol=1e-5)
    single = ours(TEXTS[0], return_tensors=True)
    assert single.shape == (1, len(ours.tokenizer(TEXTS[0]).input_ids), 16)


def test_similarity_is_the_cosine_of_mean_states(bert):
    pipe = pipeline("sentence-similarity", bert)
    scores = pipe({"source_sentence": TEXTS[0], "sentences": [TEXTS[0], TEXTS[2]]})
    model, tokenizer = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)
    means = [model(**tokenizer(t, return_tensors="pt"))[0][0].mean(0) for t in (TEXTS[0], TEXTS[2])]
    assert scores == pytest.approx([1.0, torch.cosine_similarity(*means, dim=0).item()], abs=1e-5)
    with pytest.raises(InvalidInput, match="source_sentence"):
        pipe({"sentences": []})
    with pytest.raises(TextTooLong):
        pipe({"source_sentence": TEXTS[0], "sentences": [LONG]})
    assert pipe({"source_sentence": LONG, "sentences": [LONG, ""]}, truncation=True)[0] == pytest.approx(1.0, abs=1e-5)
    assert pipeline("sentence-similarity", model, tokenizer)(
        {"source_sentence": TEXTS[0], "sentences": [TEXTS[0], TEXTS[2]]}
    ) == pytest.approx(scores)
    tokenizer.model_max_length = 10**30
    pipe = pipeline("sentence-similarity", model, tokenizer)
    assert pipe({"source_sentence": LONG, "sentences": [LONG]}, truncation=True)[0] == pytest.approx(1.0, abs=1e-5)


def test_similarity_is_the_encoders_own(bert, tmp_path):
    encoder = SentenceEncoder.from_pretrained(bert, similarity_fn_name="euclidean")
    encoder.save_pretrained(tmp_path)
    vectors = torch.tensor(encoder.encode(TEXTS))
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    for pipe in (pipeline("sentence-similarity", tmp_path), pipeline("sentence-similarity", encoder)):
        assert pipe(inputs) == pytest.approx((-(vectors[1:] - vectors[0]).norm(dim=-1)).tolist(), abs=1e-4)
        assert "sentence-similarity with SentenceEncoder" in repr(pipe)


def test_text_generation_speaks_in_the_references_shapes(llama):
    settings = {"max_new_tokens": 6, "do_sample": False}
    ours = pipeline("text-generation", llama)
    theirs = transformers.pipeline("text-generation", str(llama))
    for options in ({}, {"return_full_text": False}):
        for inputs in ("The fox", ["The fox"], ["The fox", "A lazy dog", "In 1969"]):
            assert ours(inputs, **settings, **options) == theirs(inputs, **settings, **options)


def test_conversations_go_through_the_chat_template(llama):
    pipe = pipeline("text-generation", llama)
    pipe.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    chat = [{"role": "user", "content": "The fox"}]
    answer = pipe(chat, max_new_tokens=4)[0]["generated_text"]
    assert answer[0] == chat[0]
    assert answer[1]["role"] == "assistant"
    plain = pipe("[user] The fox\n", max_new_tokens=4, return_full_text=False)[0]["generated_text"]
    assert answer[1]["content"] == plain
    assert pipe([chat, chat], max_new_tokens=4) == [[{"generated_text": answer}]] * 2
    assert pipe(chat, max_new_tokens=4, return_full_text=False) == [{"generated_text": plain}]
    with pytest.raises(InvalidInput, match="Message 1"):
        pipe([chat[0], {"role": "user"}])


def test_translation_keeps_the_order_and_ignores_company(marian):
    pipe = pipeline("translation", marian)
    alone = [pipe(text, max_new_tokens=8)[0] for text in TEXTS]
    assert pipe(TEXTS, max_new_tokens=8) == alone
    assert set(alone[0]) == {"translation_text"}
    inputs = pipe.tokenizer(TEXTS[2], return_tensors="pt")
    ids = pipe.model.generate(**inputs, max_new_tokens=8)[0]
    assert alone[2]["translation_text"] == pipe.tokenizer.decode(ids, skip_special_tokens=True)


def test_a_language_model_answers_where_no_head_is_trained(llama):
    judge = pipeline("sentiment-analysis", llama)
    assert "{text}" in judge.prompt_text
    answers = judge(TEXTS, top_k=None)
    assert len(answers) == len(TEXTS)
    assert all(sum(a["score"] for a in answer) == pytest.approx(1.0) for answer in answers)
    assert judge(TEXTS) == [answer[0] for answer in answers]
    reader = pipeline("question-answering", llama)
    answer = reader(question="Who?", context="The {question} fox", max_new_tokens=3)
    assert set(answer) <= {"answer", "start", "end"}
    assert reader([{"question": "Who?", "context": "The {question} fox"}], max_new_tokens=3) == [answer]
    with pytest.raises(InvalidInput, match="context"):
        reader(question="Who?")


def test_a_prompt_takes_its_texts_as_they_are():
    assert filled("{a} and {b}, {c}", a="{b}", b="x\\1{a}") == "{b} and x\\1{a}, {c}"


def test_the_likelihood_of_an_answer_is_the_models_own(llama):
    pipe = pipeline("sentiment-analysis", llama)
    prompt, answers = [5, 9, 14], [[3, 7], [8]]
    model = AutoModelForCausalLM.from_pretrained(llama)
    expected = []
    for answer in answers:
        scores = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        expected.append(sum(scores[2 + i, token].item() for i, token in enumerate(answer)) / len(answer))
    assert pipe.likelihoods(prompt, answers) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
def test_a_text_too_long_is_said_and_cut_only_when_asked(bert, classifier, task):
    pipe = pipeline(task, classifier)
    with pytest.raises(TextTooLong, match="Input 1 has 122 tokens"):
        pipe(["fine", LONG])
    answers = pipe(["fine", LONG], truncation=True)
    assert len(answers) == 2
    if task == "feature-extraction":
        assert len(answers[1][0]) == 24


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction", "translation", "text-generation"])
def test_inputs_that_are_no_texts_are_named(request, task):
    folder = {"translation": "marian", "text-generation": "llama"}.get(task, "classifier")
    pipe = pipeline(task, request.getfixturevalue(folder))
    for wrong in (None, ["fine", 7], [None]):
        with pytest.raises(InvalidInput, match="string"):
            pipe(wrong)


def test_a_task_or_model_that_does_not_exist_is_named(bert):
    with pytest.raises(UnsupportedOption, match="text-generation"):
        pipeline("text-generator")
    with pytest.raises(MultiheadError, match="nowhere"):
        pipeline("text-generation", "./nowhere")
    pipe = pipeline("feature-extraction", AutoModel.from_pretrained(bert), tokenizer=str(bert), device="cpu")
    assert "feature-extraction with BertModel" in repr(pipe)
    assert pipe.precision == "float32"


def test_batches_hold_every_text_once_within_the_budget():
    lengths = [5, 900, 3, 77, 77, 4096, 2000, 12]
    found = list(batches(lengths, 4096))
    assert sorted(number for batch in found for number in batch) == list(range(8))
    assert all(len(batch) == 1 or sum(lengths[n] for n in batch) <= 4096 for batch in found)
    assert len(found) == math.ceil(sum(lengths) / 4096)
    assert list(batches([])) == []
