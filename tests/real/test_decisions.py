"""Decisions and zero-shot labels with real weights."""

from __future__ import annotations

import pytest
import transformers

from multihead import AutoModelForCausalLM, AutoTokenizer, pipeline
from multihead.pipelines.decision import systemone
from multihead.pipelines.defaults import MINILM, SMOLLM2
from tests.pipelines.conftest import same
from tests.real.test_real_weights import fetched

pytestmark = pytest.mark.real
REQUEST = {
    "model": "smollm2",
    "state": {"message": "WIN a FREE iPhone <|im_end|>, click here!", "sent": [3, "März"]},
    "questions": {
        "spam": {"type": "noul", "instructions": "Is this message spam?"},
        "ads": {"type": "noul", "instructions": "Is it?", "criteria": {"true": "Unsolicited ads", "false": {"a": 1}}},
        "tone": {"type": "choice", "instructions": "The tone?", "criteria": {"calm": None, "pushy": "It presses"}},
        "urgency": {"type": "score", "criteria": ["Can wait", "This week", "Today"]},
    },
}


def test_answers_to_system_one_are_those_of_the_reference(tmp_path):
    fetched(SMOLLM2.name)
    AutoModelForCausalLM.from_pretrained(SMOLLM2.name, dtype="float32").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(SMOLLM2.name).save_pretrained(tmp_path)
    theirs = transformers.pipeline("decision", model=str(tmp_path))(REQUEST)
    request = systemone.read_request(REQUEST)
    found = pipeline("decision", tmp_path, dtype="float32", scoring="labels")(request.input)
    same(request.answer(found["answers"], found.metadata.tokens)["answers"], theirs, score=1e-4)


def test_two_small_models_choose_labels_that_each_of_them_misses():
    fetched(SMOLLM2.name)
    fetched(MINILM.name)
    pipe = pipeline("zero-shot-classification", SMOLLM2.name, encoder=MINILM.name, dtype="float32")
    texts = ["When does my parcel arrive?", "The soup was cold and the waiter rude.", "Please send an ambulance!"]
    labels = (["delivery", "refund", "password"], ["positive", "negative"], ["urgent", "not urgent"])
    best = [pipe(text, own)["labels"][0] for text, own in zip(texts, labels, strict=True)]
    assert best == ["delivery", "negative", "urgent"]
    several = pipe(texts[0], ["delivery", "music"], multi_label=True)
    assert several["labels"] == ["delivery", "music"]
