"""Sentence encoders of a hub, on loopback: the folders of their modules come too, and nothing else."""

from __future__ import annotations

import pytest

from multihead.errors import ModelNotFound, NetworkUnavailable
from multihead.hub import Want, resolve

from .test_repository import inside

TRANSFORMER = {
    "config.json": "{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle",
    "sentence_bert_config.json": "{}",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
}
MODULES = {
    "README.md": "x",
    "modules.json": "[]",
    "config_sentence_transformers.json": "{}",
    "1_Pooling/config.json": "{}",
    "2_Dense/config.json": "{}",
    "2_Dense/model.safetensors": b"dense",
    "2_Dense/pytorch_model.bin": b"pickle",
    "10_Dense/config.json": "{}",
    "10_Dense/pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"onnx",
    "openvino/config.json": "{}",
}
SPARE = {"README.md", "pytorch_model.bin", "2_Dense/pytorch_model.bin", "onnx/model.onnx", "openvino/config.json"}
WEIGHTS = {"2_Dense/model.safetensors", "10_Dense/pytorch_model.bin"}
MODEL = [Want.CONFIG, Want.TOKENIZER, Want.WEIGHTS]


def test_the_modules_of_an_encoder(hub):
    hub.add("org/encoder", {**TRANSFORMER, **MODULES})
    needed = {*TRANSFORMER, *MODULES} - SPARE
    assert inside(resolve("org/encoder", MODEL)) == sorted(needed - WEIGHTS), "no weights that a plain model has not"
    assert inside(resolve("org/encoder", [*MODEL, Want.MODULES])) == sorted(needed)
    hub.requests.clear()
    resolve("org/encoder", [*MODEL, Want.MODULES], local_files_only=True)
    assert not hub.requests


def test_an_older_encoder_keeps_its_transformer_in_a_folder(hub):
    files = {**{f"0_Transformer/{name}": text for name, text in TRANSFORMER.items()}, **MODULES}
    hub.add("org/older", files)
    folder = resolve("org/older", [*MODEL, Want.MODULES])
    assert inside(folder) == sorted(set(files) - SPARE - {"0_Transformer/pytorch_model.bin"})
    assert (folder / "0_Transformer" / "model.safetensors").read_bytes() == b"weights"
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        resolve("org/older", MODEL)


def test_its_shards_lie_there_too(hub):
    index = '{"weight_map": {"x": "model-00001-of-00001.safetensors"}}'
    shard = "0_Transformer/model-00001-of-00001.safetensors"
    hub.add("org/big", {
        "modules.json": "[]", "0_Transformer/config.json": "{}", "0_Transformer/tokenizer.json": "{}",
        "0_Transformer/model.safetensors.index.json": index, shard: b"1",
    })  # fmt: skip
    assert shard in inside(resolve("org/big", [*MODEL, Want.MODULES]))


def test_a_plain_checkpoint_needs_no_modules(hub):
    hub.add("org/plain", TRANSFORMER)
    assert inside(resolve("org/plain", [*MODEL, Want.MODULES])) == sorted(set(TRANSFORMER) - SPARE)
    with pytest.raises(NetworkUnavailable):
        resolve("org/nothing", [*MODEL, Want.MODULES], local_files_only=True)


def test_an_encoder_from_the_hub_is_the_folders_own(hub, bert, tmp_path):
    import numpy as np
    import torch

    from multihead import AutoModel, AutoTokenizer, SentenceEncoder
    from multihead.nn.weights import initialize
    from multihead.sentences.modules import Dense, Normalize, Pooling

    dense = Dense(32, 6, torch.nn.Tanh())
    initialize(dense, 0.3)
    model, tokenizer = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)
    made = SentenceEncoder(model, tokenizer, [Pooling(16, ("cls", "mean")), dense, Normalize(6)])
    made.save_pretrained(tmp_path / "made")
    files = [path for path in (tmp_path / "made").rglob("*") if path.is_file()]
    hub.add("org/tiny", {path.relative_to(tmp_path / "made").as_posix(): path for path in files})
    got = SentenceEncoder.from_pretrained("org/tiny")
    assert got.name_or_path == "org/tiny"
    np.testing.assert_array_equal(got.encode("dog"), made.encode("dog"))
    offline = SentenceEncoder.from_pretrained("org/tiny", local_files_only=True, similarity_fn_name="dot")
    assert (offline.get_sentence_embedding_dimension(), offline.similarity_fn_name) == (6, "dot")
