"""Qwen4-Exp: residual streams, hashed n-grams and chosen blocks of keys."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import of as decoder
from .delta import CLOSE, DELTA, EXPERTS

INDEX = {
    "indexer_n_heads": 5,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
}
NGRAMS = {"ple_layer_ids": [3, 1], "ngram_vocab_size_base": 30, "make_ngram_vocab_size_divisible_by": 8,
          "heads_per_ngram": 2, "split_ngram_parts": 3, "hc_count": 3, "hc_lowrank": 10,
          "rope_parameters": {"rope_theta": 100.0, "partial_rotary_factor": 0.25}}  # fmt: skip


def of(**changes: Any) -> Any:
    return decoder("Qwen4ExpText", **{**DELTA, **EXPERTS, **INDEX, **NGRAMS, **changes})


CASES = (
    Case("qwen4-exp", of(), ("TextModel", "ForCausalLM"), stem="Qwen4Exp", tolerance=CLOSE,
         half=False),  # rounding chooses other experts and keys: over eight seeds the errors are alike
    Case("qwen4-exp-long", of(num_hidden_layers=2, layer_types=["linear_attention", "indexed_attention"],
         ple_layer_ids=[1], ngram_size=4, ple_embed_dim=36, heads_per_ngram=1, ple_conv_kernel_size=2,
         indexer_budget=6, indexer_compress_ratio=3, output_gate_type="sigmoid", norm_topk_prob=False,
         attention_bias=True, tie_word_embeddings=True, eos_token_id=[5, 2]),
         ("ForCausalLM",), stem="Qwen4Exp", lengths=(37, 16, 9), tolerance=CLOSE),
)  # fmt: skip
