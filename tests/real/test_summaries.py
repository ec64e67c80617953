"""Summaries of real texts by the models that come without a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from multihead import pipeline
from multihead.pipelines.defaults import MINILM, SMOLLM2
from multihead.pipelines.splitting import split_sentences
from multihead.pipelines.summarization.length import count_words, ends_sentence

from .test_real_weights import fetched

pytestmark = pytest.mark.real
DATA = Path(__file__).parents[2].parent / "shared" / "data" / "scitldr" / "dev.jsonl"
ARTICLE = (
    "Apollo 11 launched on July 16, 1969, from Florida. Commander Neil Armstrong and pilot Buzz Aldrin landed the "
    "lunar module Eagle on the Moon four days later. Armstrong became the first person to step onto its surface. "
    "Michael Collins stayed in orbit alone. The crew came back to Earth on July 24 with 21.5 kilograms of rock. Half a "
    "billion people saw the landing on television."
)


def abstracts(count: int) -> list[str]:
    if not DATA.is_file():
        pytest.skip("the data sets are not here")
    with DATA.open(encoding="utf-8") as file:
        return [" ".join(json.loads(next(file))["source"]) for _ in range(count)]


def test_one_sentence_is_one_whole_sentence_and_a_batch_changes_none():
    fetched(SMOLLM2.name)
    pipe = pipeline("summarization", SMOLLM2.name, precision="fp32")
    texts = [*abstracts(2), ARTICLE]
    found = [answer["summary_text"] for answer in pipe(texts)]
    assert [len(split_sentences(text)) for text in found] == [1] * 3
    assert all(ends_sentence(text) for text in found)
    assert pipe(texts[-1])[0]["summary_text"] == found[-1]
    two = pipe(ARTICLE, sentences=2)[0]["summary_text"]
    assert len(split_sentences(two)) == 2
    short = pipe(ARTICLE, max_words=12)
    assert count_words(short[0]["summary_text"]) <= 12


def test_a_long_document_gets_one_summary_of_the_length_asked_for():
    fetched(SMOLLM2.name)
    pipe = pipeline("summarization", SMOLLM2.name, precision="fp32", section_tokens=300)
    document = " ".join(abstracts(3))
    summary = pipe(document)[0]["summary_text"]
    assert len(split_sentences(summary)) == 1
    assert len(split_sentences(pipe(document, combine="join")[0]["summary_text"])) > 1


def test_extracts_are_sentences_of_the_text():
    fetched(MINILM.name)
    pipe = pipeline("summarization", MINILM.name, mode="extractive", dtype="float32")
    summary = pipe(ARTICLE, sentences=2)[0]["summary_text"]
    sentences = [ARTICLE[a:b] for a, b in split_sentences(ARTICLE)]
    kept = [sentence for sentence in sentences if sentence in summary]
    assert " ".join(kept) == summary
    assert any("Moon" in sentence or "Apollo" in sentence for sentence in kept)
