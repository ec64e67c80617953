"""Sentence similarity and ranking: what the encoders themselves give."""

from __future__ import annotations

import pytest
import torch
import transformers

from multihead import AutoModel, AutoTokenizer, CrossEncoder, SentenceEncoder
from multihead.errors import InvalidInput, TextTooLong
from tests.conftest import written

from .conftest import exact

TEXTS = ["The fox jumps.", "A dog", "The quick brown fox jumps over the lazy dog.", "dog"]
LONG = "the dog and the fox " * 20


def test_similarity_is_the_cosine_of_mean_states(bert):
    pipe = exact("sentence-similarity", bert)
    inputs = {"source_sentence": TEXTS[0], "sentences": [TEXTS[0], TEXTS[2]]}
    model, tokenizer = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)
    means = [model(**tokenizer(t, return_tensors="pt"))[0][0].mean(0) for t in (TEXTS[0], TEXTS[2])]
    expected = [1.0, torch.cosine_similarity(*means, dim=0).item()]
    assert pipe(inputs) == pytest.approx(expected, abs=1e-5)
    assert [list(answer) for answer in pipe([inputs, inputs])] == [pytest.approx(expected, abs=1e-5)] * 2
    with pytest.raises(InvalidInput, match="source_sentence"):
        pipe({"sentences": []})
    with pytest.raises(TextTooLong):
        pipe({"source_sentence": TEXTS[0], "sentences": [LONG]})
    assert pipe({"source_sentence": LONG, "sentences": [LONG, "dog"]}, truncation=True)[0] == pytest.approx(
        1.0, abs=1e-5
    )
    assert exact("sentence-similarity", bert)(inputs) == pytest.approx(pipe(inputs))


def test_similarity_is_the_encoders_own(bert, tmp_path):
    encoder = SentenceEncoder.from_pretrained(bert, similarity_fn_name="euclidean")
    encoder.save_pretrained(tmp_path)
    vectors = torch.tensor(encoder.encode(TEXTS))
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    assert exact("sentence-similarity", tmp_path)(inputs) == pytest.approx(
        (-(vectors[1:] - vectors[0]).norm(dim=-1)).tolist(), abs=1e-4
    )


def test_zero_shot_by_embeddings_has_a_template_of_its_own(bert, judge):
    pipe, labels = exact("zero-shot-classification", bert), ["dog", "fox"]
    assert (
        pipe("the cat jumps", ["dog"])["scores"] == pipe("the cat jumps", ["dog"], multi_label=True)["scores"] != [1.0]
    )
    own = pipe(TEXTS[0], labels)
    assert own == pipe(TEXTS[0], labels, hypothesis_template="This is a {} message.")
    every, others = pipe(TEXTS, labels), pipe(TEXTS, labels, hypothesis_template="This example is {}.")
    assert [answer["scores"] for answer in every] != [answer["scores"] for answer in others]
    inference = exact("zero-shot-classification", judge)
    assert inference(TEXTS[0], labels) == inference(TEXTS[0], labels, hypothesis_template="This example is {}.")


def test_documents_are_ranked_by_the_encoder_or_by_the_cross_encoder(bert, tmp_path):
    inputs = {"query": TEXTS[0], "documents": TEXTS[1:]}
    pipe = exact("text-ranking", bert)
    scores = exact("sentence-similarity", bert)({"source_sentence": TEXTS[0], "sentences": TEXTS[1:]})
    found = pipe(inputs)
    assert [row["score"] for row in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
    assert all(row["text"] == TEXTS[1:][row["corpus_id"]] for row in found)
    folder = written(tmp_path, transformers.BertForSequenceClassification, num_labels=1)
    cross = CrossEncoder.from_pretrained(folder)
    pipe = exact("text-ranking", folder)
    expected = cross.rank(TEXTS[0], TEXTS[1:], return_documents=True)
    assert [row["corpus_id"] for row in pipe(inputs)] == [row["corpus_id"] for row in expected]
    assert [row["score"] for row in pipe(inputs)] == pytest.approx([row["score"] for row in expected], abs=1e-5)
    assert [row["corpus_id"] for row in pipe(inputs, top_k=1, return_documents=False)] == [expected[0]["corpus_id"]]
    assert "text" not in pipe(inputs, return_documents=False)[0]
    with pytest.raises(InvalidInput, match="documents"):
        pipe({"query": "x"})
