"""Cross-encoders score and rank as the reference does, and save what it reads."""

from __future__ import annotations

import numpy as np
import pytest
import sentence_transformers as reference
import torch
import transformers

from multihead import CrossEncoder
from multihead.errors import InvalidInput, UnsupportedConfig
from tests.conftest import written

from .conftest import SENTENCES, changed

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
PAIRS = [(one, other) for one in SENTENCES[:4] for other in SENTENCES[3:]]
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    return written(tmp_path_factory.mktemp("ranker"), transformers.BertForSequenceClassification, num_labels=1)


def same(folder, back=None, **options):
    ours, theirs = CrossEncoder.from_pretrained(folder), reference.CrossEncoder(str(folder), device="cpu")
    expected = theirs.predict(PAIRS, **options)
    np.testing.assert_allclose(ours.predict(PAIRS, **options), expected, **CLOSE)
    if back is not None:
        ours.save_pretrained(back)
        again = reference.CrossEncoder(str(back), device="cpu")
        np.testing.assert_allclose(again.predict(PAIRS, **options), expected, **CLOSE)
        np.testing.assert_allclose(CrossEncoder.from_pretrained(back).predict(PAIRS, **options), expected, **CLOSE)
    return ours, theirs


def test_scores_equal_the_references(ranker, classifier, tmp_path):
    same(ranker, tmp_path / "one")
    same(classifier, tmp_path / "three")
    same(classifier, apply_softmax=True)
    same(ranker, activation_fn=torch.nn.Identity())
    ours = CrossEncoder.from_pretrained(ranker, activation_fn=torch.tanh)
    assert np.abs(ours.predict(PAIRS)).max() <= 1
    with pytest.raises(UnsupportedConfig, match="activation"):
        ours.save_pretrained(tmp_path / "nameless")
    assert not (tmp_path / "nameless").exists()


@pytest.mark.parametrize("name", [SIGMOID, IDENTITY])
def test_the_activation_that_a_checkpoint_names(ranker, name, tmp_path):
    import shutil

    for number, entries in enumerate(
        ({"sentence_transformers": {"activation_fn": name}}, {"sbert_ce_default_activation_function": name})
    ):
        folder = shutil.copytree(ranker, tmp_path / str(number))
        changed(folder / "config.json", **entries)
        ours, _ = same(folder, tmp_path / f"back{number}")
        assert isinstance(ours.activation_fn, torch.nn.Sigmoid if name == SIGMOID else torch.nn.Identity)
    changed(folder / "config.json", sbert_ce_default_activation_function="os.system")
    with pytest.raises(UnsupportedConfig, match=r"os\.system"):
        CrossEncoder.from_pretrained(folder)


def test_what_the_reference_saves_today_loads(ranker, tmp_path):
    theirs = reference.CrossEncoder(str(ranker), device="cpu", activation_fn=torch.nn.Identity())
    theirs.save_pretrained(str(tmp_path / "new"))
    ours, _ = same(tmp_path / "new", tmp_path / "back")
    assert isinstance(ours.activation_fn, torch.nn.Identity)


def test_documents_are_ranked(ranker, classifier):
    ours, theirs = CrossEncoder.from_pretrained(ranker), reference.CrossEncoder(str(ranker), device="cpu")
    for options in ({}, {"top_k": 2}, {"return_documents": True}, {"top_k": 99, "activation_fn": torch.nn.Identity()}):
        got, expected = (e.rank("A dog", SENTENCES, **options) for e in (ours, theirs))
        assert [row["corpus_id"] for row in got] == [row["corpus_id"] for row in expected]
        assert [row.get("text") for row in got] == [row.get("text") for row in expected]
        np.testing.assert_allclose([r["score"] for r in got], [r["score"] for r in expected], **CLOSE)
    assert ours.rank("A dog", []) == []
    with pytest.raises(InvalidInput, match="one score"):
        CrossEncoder.from_pretrained(classifier).rank("A dog", SENTENCES)


def test_shapes_and_batches(ranker):
    ours, theirs = CrossEncoder.from_pretrained(ranker), reference.CrossEncoder(str(ranker), device="cpu")
    expected = theirs.predict(PAIRS)
    for options in ({"batch_size": 1}, {"batch_size": 3}, {"token_budget": 7}):
        np.testing.assert_allclose(ours.predict(PAIRS, **options), expected, **CLOSE)
    assert ours.predict(PAIRS[0]).shape == theirs.predict(PAIRS[0]).shape == ()
    assert isinstance(ours.predict(PAIRS, convert_to_tensor=True), torch.Tensor)
    assert len(ours.predict(PAIRS, convert_to_numpy=False)) == len(PAIRS)
    assert ours.predict([]).shape == (0,)
    ours.max_seq_length = theirs.max_seq_length = 9
    np.testing.assert_allclose(ours.predict(PAIRS), theirs.predict(PAIRS), **CLOSE)
    for wrong in ("dog", None, 3, ["a"], [("a", "b", "c")], [("a", None)], [1, 2]):
        with pytest.raises(InvalidInput, match=r"[Pp]air"):
            ours.predict(wrong)


def test_what_is_no_cross_encoder(ranker, tmp_path):
    import shutil

    folder = shutil.copytree(ranker, tmp_path / "x")
    changed(folder / "config.json", architectures=["LlamaForCausalLM"])
    with pytest.raises(UnsupportedConfig, match="language model"):
        CrossEncoder.from_pretrained(folder)


def test_a_prepared_one_scores_nearly_the_same(ranker):
    exact, ours = CrossEncoder.from_pretrained(ranker), CrossEncoder.from_pretrained(ranker, precision="int8")
    assert ours.model.prepared == "int8"
    np.testing.assert_allclose(ours.predict(PAIRS), exact.predict(PAIRS), atol=0.1)
