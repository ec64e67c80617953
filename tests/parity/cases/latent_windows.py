"""Dots 3 Note, whose layers have latent attention by an index, or in a window with sizes of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from ..case import WORDS, Case
from .experts import EXPERTS, balanced

SLIDING = {f"swa_{name}": size for name, size in (
    ("num_attention_heads", 3), ("num_key_value_heads", 3), ("q_lora_rank", 22), ("kv_lora_rank", 18),
    ("head_dim", 20), ("qk_nope_head_dim", 12), ("v_head_dim", 10),
)}  # fmt: skip
DOTS: Mapping[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 48, "kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6,
    "v_head_dim": 14, "head_dim": 16, "n_routed_experts": 6, "shared_experts_intermediate_size": 20, "index_topk": 5,
    "index_head_dim": 10, "index_n_heads": 20, "sliding_window": 4, "max_position_embeddings": 64, "pad_token_id": 0,
    "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"], "bos_token_id": 1,
    "eos_token_id": 2, **EXPERTS, **SLIDING,
}  # fmt: skip


def dots(**changes: Any) -> Any:
    return lambda: transformers.Dots3NoteTextConfig(**{**DOTS, **changes})


CASES = (
    Case("dots3-note", dots(), ("TextModel", "ForCausalLM"), stem="Dots3Note", altered=balanced),
    Case(
        "dots3-note-whole",
        dots(use_dsa=False, layer_types=["full_attention", "sliding_attention", "full_attention"], n_group=3,
             topk_group=2, attention_bias=True, routed_scaling_factor=1.7, n_shared_experts=2, norm_topk_prob=False,
             num_experts_per_tok=3,
             moe_layer_freq=2, rope_theta=300.0, tie_word_embeddings=True, swa_rope_theta=50.0, rms_norm_eps=1e-3),
        ("ForCausalLM",),
        stem="Dots3Note",
        altered=balanced,
    ),
)  # fmt: skip
