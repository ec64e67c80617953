"""`multihead explain`: attributions equal gradients by hand, add up to the score, and survive bad input."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import multihead
from multihead import pipeline
from multihead.attribution.explain import units_of
from multihead.attribution.inputs import ExplainedInput, read_input
from multihead.attribution.methods import Scorer
from multihead.attribution.targets import LabelTarget, SpanTarget, TokenTarget
from multihead.errors import InvalidInput, ModelNotFound, NetworkUnavailable, TextTooLong, UnsupportedOption
from multihead.pipelines.calibration import Calibration
from multihead.pipelines.defaults import SENTIMENT
from tests.cli.test_tools import run
from tests.pipelines.conftest import judge  # noqa: F401  fixture

TEXT = "the quick brown fox jumps"
QUESTION = {"question": "the fox ?", "context": "the quick brown fox jumps over the lazy dog"}


@pytest.fixture(scope="module")
def writer(llama):
    return pipeline("text-generation", llama, dtype="float32", max_new_tokens=2)


@pytest.fixture(scope="module")
def answerer(reader):
    return pipeline("question-answering", reader, dtype="float32")


def cases(request, kind):
    """A pipeline, an input and options."""
    return {
        "label": lambda: (request.getfixturevalue("pipe"), TEXT, {}),
        "span": lambda: (request.getfixturevalue("answerer"), QUESTION, {}),
        "token": lambda: (request.getfixturevalue("writer"), TEXT, {}),
        "entailment": lambda: (
            pipeline("zero-shot-classification", request.getfixturevalue("judge"), dtype="float32"),
            "the fox", {"candidate_labels": ["fox", "dog"], "hypothesis_template": "a {}"},
        ),
    }[kind]()  # fmt: skip


@pytest.mark.parametrize("kind", ["label", "span", "token", "entailment"])
def test_gradient_x_input_equals_finite_differences(request, kind):
    pipe, item, options = cases(request, kind)
    found = multihead.explain(pipe, item, "gradient-x-input", level="token", **options)
    scorer = Scorer(pipe, read_input(pipe, item, None, options), None)
    own, _ = scorer.embeddings()
    values = []
    with torch.no_grad():
        for place in range(len(own)):  # the derivative along the token's own embedding
            scores = []
            for sign in (1, -1):
                moved = own.clone()
                moved[place] *= 1 + sign * 3e-2
                scores.append(float(scorer.by_embeddings(moved[None])[0]))
            values.append((scores[0] - scores[1]) / 6e-2)
    order = [n for special in (False, True) for n, p in enumerate(scorer.source.places) if (p is None) == special]
    expected = [values[n] for n in order]
    noise = max(0.03 * max(map(abs, expected)), 1e-4)  # of scores in float32, over the distance
    assert [piece.value for piece in found.pieces] == pytest.approx(expected, rel=0.05, abs=noise)


@pytest.mark.parametrize("kind", ["label", "span", "token", "entailment"])
def test_integrated_gradients_are_complete(request, kind):
    pipe, item, options = cases(request, kind)
    found = multihead.explain(pipe, item, **options)
    total = sum(piece.value for piece in found.pieces)
    assert total == pytest.approx(found.score - found.baseline, abs=max(0.02 * abs(found.score - found.baseline), 1e-3))
    assert found.error == pytest.approx(found.score - found.baseline - total, abs=1e-4)
    assert found.notes == ()
    specials = [piece.value for piece in found.pieces if piece.source < 0]
    assert specials == [0.0] * len(specials)  # they are in the baseline too


def test_too_few_steps_are_said(writer):
    found = multihead.explain(writer, TEXT, steps=1)
    if abs(found.error) > max(0.02 * abs(found.score - found.baseline), 1e-3):
        assert "steps are too few" in found.notes[0]
    assert found.steps == 1


@pytest.mark.parametrize("kind", ["label", "span", "token", "entailment"])
def test_leave_one_out_equals_scores_without_each_word(request, kind):
    pipe, item, options = cases(request, kind)
    found = multihead.explain(pipe, item, "leave-one-out", **options)
    source = read_input(pipe, item, None, options)
    mask = pipe.tokenizer.mask_token_id
    units, names = units_of(source, "word")
    with torch.no_grad():
        for unit, piece in zip(units, found.words, strict=True):
            if kind == "token":
                ids = [i for n, i in enumerate(source.ids) if n not in unit]
                scores = pipe.model(torch.tensor([ids])).logits[:, -1].float()
            else:
                ids = [mask if n in unit else i for n, i in enumerate(source.ids)]
                out = pipe.model(torch.tensor([ids]), token_type_ids=torch.tensor([list(source.types)]))
                scores = torch.stack([out.start_logits, out.end_logits], -1) if kind == "span" else out.logits
            assert piece.value == pytest.approx(found.score - float(source.target.score(scores)[0]), abs=1e-4)
    assert [piece.text for piece in found.words] == [text for text, _ in names]


def test_scores_are_log_odds_and_log_probabilities():
    scores = torch.tensor([[1.0, 2.0, 0.5]])
    p = scores.softmax(-1)[0]
    assert float(LabelTarget(1).score(scores)[0]) == pytest.approx(float(torch.log(p[1] / (1 - p[1]))))
    assert float(LabelTarget(1, "sigmoid").score(scores)[0]) == 2.0
    assert float(TokenTarget(2).score(scores)[0]) == pytest.approx(float(p[2].log()))
    pairs = torch.randn(1, 5, 2)
    logs = pairs[0, 1:4].log_softmax(0)
    whole = SpanTarget(2, 3, "span", [1, 2, 3]).score(pairs)[0]
    assert float(whole) == pytest.approx(float(logs[1, 0] + logs[2, 1]), abs=1e-6)
    assert float(SpanTarget(2, 3, "end", [1, 2, 3]).score(pairs)[0]) == pytest.approx(float(logs[2, 1]), abs=1e-6)


def test_the_target_is_the_answer_unless_it_is_named(pipe, answerer, writer):
    best = pipe([TEXT])[0]
    found = multihead.explain(pipe, TEXT, "leave-one-out")
    assert found.target == best["label"]
    assert 1 / (1 + np.exp(-found.score)) == pytest.approx(best["score"], abs=1e-4)
    other = multihead.explain(pipe, TEXT, "leave-one-out", target="bad")
    assert other.target == "bad"
    answer = answerer(QUESTION)
    explained = multihead.explain(answerer, QUESTION, "leave-one-out")
    assert explained.target == answer["answer"]
    assert multihead.explain(answerer, QUESTION, "leave-one-out", target="start").score > explained.score
    token = writer(TEXT, max_new_tokens=1, do_sample=False, return_full_text=False)[0]["generated_text"]
    assert multihead.explain(writer, TEXT, "leave-one-out").target.strip() == token.strip()


def test_emoji_names_and_stored_biases_are_explained_as_they_are_answered(pipe):
    found = multihead.explain(pipe, "the dog 👍", "leave-one-out", emoji_names=True)
    assert found.texts == ("the dog thumbs up sign",)
    assert [word.text for word in found.words] == ["the", "dog", "thumbs", "up", "sign"]
    calibration = Calibration(2.0, bias={"bad": 50.0}, thresholds={"bad": 1.0})
    assert pipe([TEXT], calibration=calibration, top_k=1)[0][0]["label"] == "bad"
    biased = multihead.explain(pipe, TEXT, "leave-one-out", calibration=calibration)
    own = {row["label"]: row["score"] for row in pipe([TEXT], top_k=None)[0]}
    assert biased.target == "bad"
    assert 1 / (1 + np.exp(-biased.score)) == pytest.approx(own["bad"], abs=1e-4)  # the head's own


def test_words_are_joined_from_tokens_in_any_script():
    text = "unseen don't 東京 ok."
    places = [None, (0, 0, 2), (0, 2, 6), (0, 6, 10), (0, 10, 11), (0, 11, 12), (0, 12, 14), (0, 14, 15), (0, 15, 18),
              (0, 18, 19), None]  # fmt: skip
    source = ExplainedInput((text,), [0] * 11, None, [""] * 11, places, LabelTarget(0), "", "")
    units, names = units_of(source, "word")
    assert [name for name, _ in names] == ["unseen", "don", "'", "t", "東", "京", "ok", "."]
    assert units[0] == [1, 2]
    assert len(units_of(source, "token")[0]) == 9


def test_the_page_and_the_command(classifier, tmp_path):
    page, data = tmp_path / "e.html", tmp_path / "e.json"
    text = "the <b>fox</b> jumps"
    out = run("explain", text, "-m", classifier, "--target", "good", "--output", page, "--output", data).output
    assert "good" in out
    assert "add up to" in out
    html = page.read_text()
    assert "<script" not in html
    assert "&lt;" in html
    assert not re.search(r"(src|href)=", html)
    values = json.loads(data.read_text())
    assert values["target"] == "good"
    assert [piece["text"] for piece in values["pieces"]][:4] == ["the", "<", "b", ">"]
    out = run("explain", "the fox", "-m", classifier, "--method", "leave-one-out", "--precision", "int8").output
    assert "log-odds" in out


def test_what_cannot_be_explained_is_refused(pipe, answerer, classifier, marian, tmp_path):
    with pytest.raises(UnsupportedOption, match="method is one of"):
        multihead.explain(pipe, TEXT, "lime")
    with pytest.raises(UnsupportedOption, match="'best' is no label"):
        multihead.explain(pipe, TEXT, target="best")
    with pytest.raises(UnsupportedOption, match="baseline is one of"):
        multihead.explain(pipe, TEXT, baseline="noise")
    with pytest.raises(InvalidInput, match="steps is a whole number"):
        multihead.explain(pipe, TEXT, steps=0)
    with pytest.raises(UnsupportedOption, match="steps has no effect"):
        multihead.explain(pipe, TEXT, "leave-one-out", steps=5)
    with pytest.raises(TextTooLong, match="tokens"):
        multihead.explain(pipe, "fox " * 60)
    with pytest.raises(InvalidInput):
        multihead.explain(pipe, 7)
    with pytest.raises(UnsupportedOption, match="span, start, end"):
        multihead.explain(answerer, QUESTION, target="middle")
    with pytest.raises(UnsupportedOption, match="cannot be explained"):
        multihead.explain(pipeline("translation", marian, dtype="float32", max_new_tokens=2), TEXT)
    prepared = pipeline("text-classification", classifier, precision="int8")
    with pytest.raises(UnsupportedOption, match="leave-one-out"):
        multihead.explain(prepared, TEXT)
    assert multihead.explain(prepared, TEXT, "leave-one-out").words
    with pytest.raises(InvalidInput, match="needs --question"):
        run("explain", TEXT, "--task", "question-answering", "-m", classifier)
    with pytest.raises(InvalidInput, match=r"must end in \.html"):
        run("explain", TEXT, "-m", classifier, "--output", tmp_path / "x.doc")


@pytest.mark.real
def test_the_words_of_a_real_review_speak_for_its_label():
    try:
        pipe = pipeline("sentiment-analysis", SENTIMENT.name, dtype="float32")
    except (NetworkUnavailable, ModelNotFound) as error:
        pytest.skip(f"real weights are not to be had here: {error}")
    for method in ("integrated-gradients", "gradient-x-input", "leave-one-out"):
        found = multihead.explain(pipe, "A dull and clumsy film with one lovely song.", method, target="negative")
        values = {piece.text: piece.value for piece in found.words}
        if method != "gradient-x-input":
            assert min(values["dull"], values["clumsy"]) > 0 > values["lovely"], method
        assert len(values) == 10
