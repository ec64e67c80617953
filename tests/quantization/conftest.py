"""Tiny checkpoints of the reference with a tokenizer, to quantize."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind. " * 20
SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "head_dim": 16}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "whole": lambda: transformers.LlamaConfig(**SIZES),  # as many key heads as heads
    "tied": lambda: transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **GROUPED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES),
    "bert": lambda: transformers.BertConfig(**SIZES),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=260, n_embd=64, n_layer=1, n_head=4, n_positions=64),
    "t5": lambda: transformers.T5Config(vocab_size=260, d_model=64, d_ff=96, d_kv=16, num_layers=2, num_heads=4),
    "gpt_oss": lambda: transformers.GptOssConfig(
        **{**GROUPED, "intermediate_size": 64}, num_local_experts=4, num_experts_per_tok=2
    ),
}
CLASSES: dict[str, Any] = {"bert": transformers.AutoModelForMaskedLM, "t5": transformers.AutoModelForSeq2SeqLM}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a kind of model, saved at its first use."""
    saved: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in saved:
            torch.manual_seed(0)
            path = saved[kind] = tmp_path_factory.mktemp(kind)
            made = CLASSES.get(kind, transformers.AutoModelForCausalLM).from_config(MODELS[kind]())
            for parameter in made.parameters():  # the reference draws them so small that rounding hardly matters
                parameter.data.mul_(4 if parameter.ndim == 2 else 1)
            made.to(torch.bfloat16).save_pretrained(path)
            letters = {c: i for i, c in enumerate(["<pad>", "<mask>", *pre_tokenizers.ByteLevel.alphabet()])}
            tokenizer = Tokenizer(models.BPE(letters, []))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            special = {"pad_token": "<pad>", "mask_token": "<mask>"}
            transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(path)
        return saved[kind]

    return folder
