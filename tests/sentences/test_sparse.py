"""Sparse encoders give the reference's weights of words, and save what the reference reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sentence_transformers as reference
import torch
from sentence_transformers.sparse_encoder.modules import SpladePooling

import multihead
from multihead.errors import InvalidInput, UnsupportedConfig

from .conftest import SENTENCES, changed

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def written(bert, tmp_path):
    def made(strategy="max", act="relu", **options):
        transformer = reference.base.modules.Transformer(str(bert), transformer_task="fill-mask")
        pooling = SpladePooling(strategy, activation_function=act)
        reference.SparseEncoder(modules=[transformer, pooling], **options).save(
            str(tmp_path / "written"), create_model_card=False
        )
        return tmp_path / "written"

    return made


def same(folder, back=None, **options):
    theirs = reference.SparseEncoder(str(folder), device="cpu")
    ours = multihead.SparseEncoder.from_pretrained(folder)
    expected, got = (encoder.encode(SENTENCES, **options) for encoder in (theirs, ours))
    assert got.is_sparse
    torch.testing.assert_close(got.to_dense(), expected.to_dense(), **CLOSE)
    if back is not None:
        ours.save_pretrained(back)
        again = reference.SparseEncoder(str(back), device="cpu")
        torch.testing.assert_close(again.encode(SENTENCES, **options).to_dense(), expected.to_dense(), **CLOSE)
        assert (again.prompts, again.max_active_dims) == (theirs.prompts, theirs.max_active_dims)
    return ours, theirs


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("act", ["relu", "log1p_relu"])
def test_every_pooling(written, strategy, act, tmp_path):
    same(written(strategy, act), tmp_path / "back")


def test_prompts_and_a_number_of_weights(written, tmp_path):
    folder = written(prompts={"query": "the dog ", "document": ""}, max_active_dims=7)
    ours, theirs = same(folder, tmp_path / "back")
    for name in ("encode_query", "encode_document"):
        got, expected = (getattr(encoder, name)(SENTENCES, max_active_dims=5) for encoder in (ours, theirs))
        torch.testing.assert_close(got.to_dense(), expected.to_dense(), **CLOSE)
    with pytest.raises(InvalidInput, match="max_active_dims"):
        ours.encode("a", max_active_dims=0)


def test_scores_words_and_sparsity(written):
    ours, theirs = same(written())
    rows, expected = ours.encode(SENTENCES), theirs.encode(SENTENCES)
    torch.testing.assert_close(ours.similarity(rows, rows), theirs.similarity(expected, expected), **CLOSE)
    torch.testing.assert_close(
        ours.similarity_pairwise(rows, rows), theirs.similarity_pairwise(expected, expected), **CLOSE
    )
    assert ours.sparsity(rows)["active_dims"] == pytest.approx(theirs.sparsity(expected)["active_dims"])
    for got, wanted in zip(ours.decode(rows, top_k=4), theirs.decode(expected, top_k=4), strict=True):
        assert [word for word, _ in got] == [word for word, _ in wanted]
        np.testing.assert_allclose([n for _, n in got], [n for _, n in wanted], **CLOSE)
    one = ours.encode("A dog", convert_to_sparse_tensor=False)
    torch.testing.assert_close(one, rows.to_dense()[1], **CLOSE)
    assert isinstance(ours.encode(SENTENCES, convert_to_tensor=False), list)


def test_a_masked_language_model_without_modules(bert):
    same(bert)


def test_a_folder_of_an_older_version(written):
    folder = written()
    rows = json.loads((folder / "modules.json").read_text())
    rows[0]["type"] = "sentence_transformers.sparse_encoder.models.MLMTransformer"
    (folder / "modules.json").write_text(json.dumps(rows))
    changed(folder / "sentence_bert_config.json", transformer_task=None, modality_config=None, module_output_name=None)
    same(folder)


def test_a_folder_of_another_encoder_is_refused(written, encoder):
    with pytest.raises(UnsupportedConfig, match="SparseEncoder"):
        multihead.SentenceEncoder.from_pretrained(written())
    with pytest.raises(UnsupportedConfig, match="Pooling"):
        multihead.SparseEncoder.from_pretrained(encoder)
