"""Sentence encoders made of several families give the reference's vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers as reference
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer import modules

from multihead import SentenceEncoder
from multihead.errors import UnsupportedConfig
from tests.conftest import SIZES
from tests.tokenizers import folders

from .conftest import changed
from .test_encoder import same

PROMPTS = {"query": "Instruct: find the dog\nQuery:", "document": ""}
NAMES = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FAMILIES = {
    "eurobert": ("EuroBert", "mean", {"num_key_value_heads": 1, **NAMES}),
    "gte": ("Gte", "cls", {"type_vocab_size": 1}),
    "jina_v3": ("JinaEmbeddingsV3", "mean", {"type_vocab_size": 1}),
    "qwen3": ("Qwen3", "lasttoken", {"head_dim": 8, "num_key_value_heads": 1, **NAMES}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_of_the_family(name, tmp_path):
    family, pooling, entries = FAMILIES[name]
    side = "left" if pooling == "lasttoken" else "right"
    (tmp_path / "model").mkdir()
    folder = Path(folders.bytes_bpe(tmp_path / "model", "GPT2"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side=side)
    tokenizer.pad_token = tokenizer.eos_token
    config = getattr(transformers, f"{family}Config")(
        **{**SIZES, **entries, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}Model")(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformer = reference.base.modules.Transformer(str(folder), max_seq_length=40)
    steps = [transformer, modules.Pooling(config.hidden_size, pooling), modules.Normalize()]
    reference.SentenceTransformer(modules=steps, prompts=PROMPTS).save(str(tmp_path / "st"), create_model_card=False)
    same(tmp_path / "st", tmp_path / "back", prompt_name="query")


def test_jina_v3_with_the_weights_and_the_prompt_of_a_task(tmp_path):
    """A folder as it is published: a transformer of its own code, and prompts by the names of tasks."""
    folder = Path(folders.bytes_bpe(tmp_path, "GPT2"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    sizes = {**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "type_vocab_size": 1}
    config = transformers.JinaEmbeddingsV3Config(**sizes)
    torch.manual_seed(0)
    transformers.JinaEmbeddingsV3Model(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("1.mlp.fc1.weight"))
    stem, weight = name.removesuffix(".weight"), tensors.pop(name)
    own = f"{stem}.parametrizations.weight"
    down, up = torch.randn(2, 4, weight.shape[1]), torch.randn(2, weight.shape[0], 4)
    save_file({**tensors, f"{own}.original": weight, f"{own}.0.lora_A": down, f"{own}.0.lora_B": up},
              folder / "model.safetensors")  # fmt: skip
    changed(folder / "config.json", lora_adaptations=["retrieval.query", "separation"], lora_rank=4, lora_alpha=1)
    rows = [("", "custom_st.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    (folder / "1_Pooling").mkdir()
    changed(folder / "1_Pooling" / "config.json", word_embedding_dimension=16, pooling_mode_mean_tokens=True)
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(rows)]
    (folder / "modules.json").write_text(json.dumps(listed))
    changed(folder / "config_sentence_transformers.json", prompts={"separation": "find the ", "retrieval.query": ""})
    encoder = SentenceEncoder.from_pretrained(folder, task="separation")
    assert encoder.default_prompt_name == "separation"
    encoder.save_pretrained(tmp_path / "back")
    theirs = reference.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    np.testing.assert_allclose(encoder.encode("dog"), theirs.encode("dog"), rtol=1e-4, atol=1e-5)
    stored = load_file(tmp_path / "back" / "model.safetensors")
    torch.testing.assert_close(stored["layers.1.mlp.fc1.weight"], weight + up[1] @ down[1] / 4)
    plain = SentenceEncoder.from_pretrained(folder)
    assert plain.default_prompt_name is None
    assert np.abs(plain.encode("find the dog") - encoder.encode("dog")).max() > 1e-3
    changed(folder / "config.json", lora_adaptations=None)
    with pytest.raises(UnsupportedConfig, match="custom_st"):
        SentenceEncoder.from_pretrained(folder)
