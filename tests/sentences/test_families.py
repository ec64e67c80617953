"""Sentence encoders made of several families give the reference's vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentence_transformers as reference
import torch
import transformers
from sentence_transformers.sentence_transformer import modules

from tests.conftest import SIZES
from tests.tokenizers import folders

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
