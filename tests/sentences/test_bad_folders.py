"""Folders that are wrong, or ask for what is not computed, are refused by name."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from multihead import CrossEncoder, SentenceEncoder
from multihead.errors import (
    CheckpointMismatch,
    CorruptFile,
    ModelNotFound,
    UnsafeFile,
    UnsupportedConfig,
    UnsupportedOption,
)

from .conftest import changed


def relisted(folder, *rows):
    (folder / "modules.json").write_text(json.dumps(rows))


def row(kind, path="", package="sentence_transformers.models."):
    return {"idx": 0, "name": "0", "path": path, "type": package + kind}


FIRST, POOL = row("Transformer"), row("Pooling", "1_Pooling")


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        ([FIRST, POOL, row("CNN", "2_CNN")], UnsupportedConfig, "CNN"),
        ([FIRST, POOL, row("Dense", "2_Dense", "my_code.")], UnsupportedConfig, r"my_code\.Dense"),
        ([POOL], UnsupportedConfig, "Transformer"),
        ([], UnsupportedConfig, "nothing"),
        ([FIRST], UnsupportedConfig, "Pooling"),
        ([FIRST, POOL, POOL], UnsupportedConfig, "one Pooling"),
        ([FIRST, row("Pooling", "7_Pooling")], ModelNotFound, "7_Pooling"),
        ([FIRST, row("Pooling", "../1_Pooling")], UnsafeFile, "outside"),
        ([FIRST, row("Pooling", "/etc")], UnsafeFile, "outside"),
        ([row("Transformer", "0_Transformer"), POOL], ModelNotFound, "0_Transformer"),
        (["Pooling"], CorruptFile, "list of modules"),
        ([{"path": "x"}], CorruptFile, "list of modules"),
    ],
)
def test_modules(encoder, rows, error, match):
    relisted(encoder, *rows)
    with pytest.raises(error, match=match):
        SentenceEncoder.from_pretrained(encoder)


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "3"])
def test_a_list_of_modules_that_is_none(encoder, text):
    (encoder / "modules.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"modules\.json"):
        SentenceEncoder.from_pretrained(encoder)


@pytest.mark.parametrize(
    ("file", "entries", "match"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "middle"}, "middle"),
        ("1_Pooling/config.json", {"pooling_mode": []}, "pooling_mode"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "pooling_mode"),
        ("1_Pooling/config.json", {"embedding_dimension": 17}, "17"),
        ("1_Pooling/config.json", {"embedding_dimension": -1}, "-1"),
        ("1_Pooling/config.json", {"include_prompt": "no"}, "include_prompt"),
        ("1_Pooling/config.json", {"surprise": 1}, "surprise"),
        ("2_Dense/config.json", {"in_features": 15}, "15"),
        ("2_Dense/config.json", {"out_features": 0}, "out_features"),
        ("2_Dense/config.json", {"out_features": None}, "out_features"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, r"os\.system"),
        ("2_Dense/config.json", {"activation_function": 7}, "7"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "token_embeddings"),
        ("sentence_bert_config.json", {"max_seq_length": -3}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "image"),
        ("sentence_bert_config.json", {"model_args": {"adapter": 1}}, "adapter"),
        ("sentence_bert_config.json", {"query_expansion": {"length": 32}}, "query_expansion"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "maxsim"}, "maxsim"),
        ("config_sentence_transformers.json", {"default_prompt_name": "nobody"}, "nobody"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "query"),
        ("config_sentence_transformers.json", {"prompts": "query"}, "prompts"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
    ],
)
def test_entries(encoder, file, entries, match):
    changed(encoder / file, **entries)
    with pytest.raises(UnsupportedConfig, match=match):
        SentenceEncoder.from_pretrained(encoder)


def test_the_weights_of_a_dense_layer(encoder):
    folder, good = encoder / "2_Dense", {"linear.weight": torch.zeros(6, 16), "linear.bias": torch.zeros(6)}
    for tensors, match in (
        ({**good, "linear.weight": torch.zeros(16, 6)}, r"\[6, 16\]"),
        ({"linear.weight": good["linear.weight"]}, "missing"),
        ({**good, "more": torch.zeros(1)}, "unexpected"),
    ):
        safetensors.torch.save_file(tensors, folder / "model.safetensors")
        with pytest.raises(CheckpointMismatch, match=match):
            SentenceEncoder.from_pretrained(encoder)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CorruptFile):
        SentenceEncoder.from_pretrained(encoder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="2_Dense"):
        SentenceEncoder.from_pretrained(encoder)


def test_the_wrong_class(encoder, marian, bert):
    with pytest.raises(UnsupportedConfig, match="SentenceEncoder"):
        CrossEncoder.from_pretrained(encoder)
    with pytest.raises(UnsupportedConfig, match="is an encoder-decoder"):
        SentenceEncoder.from_pretrained(marian)
    with pytest.raises(UnsupportedOption, match="trust_remote_code"):
        SentenceEncoder.from_pretrained(bert, trust_remote_code=True)
    with pytest.raises(UnsupportedConfig, match="default_prompt_name"):
        SentenceEncoder.from_pretrained(bert, default_prompt_name="nobody")
