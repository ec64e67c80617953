"""Gemma 4, Gemma 3n and their kin."""

from __future__ import annotations

from typing import Any

import torch

from ..case import Case
from .decoders import of

KINDS = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
TEXT = ("TextModel", "ForCausalLM")
FOUR = {
    "num_hidden_layers": 4, "layer_types": KINDS, "head_dim": 8, "global_head_dim": 12, "sliding_window": 4,
    "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 99,
}  # fmt: skip
SHARED = {
    "num_hidden_layers": 6, "layer_types": [*KINDS, "sliding_attention", "full_attention"], "num_kv_shared_layers": 3
}  # fmt: skip
EXPERTS = {
    "enable_moe_block": True, "num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 24, "hidden_size": 48,
    "hidden_size_per_layer_input": 0,
}  # fmt: skip


def scaled(model: Any, end: str) -> None:
    """Numbers of layers, which are buffers."""
    for name, buffer in model.named_buffers():
        if name.endswith("layer_scalar"):
            buffer.copy_(torch.rand(1) + 0.5)


def gemma4(name: str, ends: tuple[str, ...] = ("ForCausalLM",), stem: str = "Gemma4", **changes: Any) -> Case:
    sizes = {**FOUR, **changes}
    if stem != "Gemma4":
        sizes = {key: value for key, value in sizes.items() if "per_layer_input" not in key}
    return Case(name, of(f"{stem}Text", **sizes), ends, stem=stem, altered=scaled)


THREE_N = {
    "num_hidden_layers": 6, "layer_types": SHARED["layer_types"], "num_kv_shared_layers": 3, "head_dim": 8,
    "sliding_window": 4, "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 90, "laurel_rank": 5,
    "activation_sparsity_pattern": [0.8, 0.6, 0.0, 0.0, 0.0, 0.0],
}  # fmt: skip


def gemma3n(name: str, ends: tuple[str, ...] = ("ForCausalLM",), **changes: Any) -> Case:
    # The reference shows states of all streams first, and one stream's is not a layer's.
    return Case(name, of("Gemma3nText", **{**THREE_N, **changes}), ends, stem="Gemma3n", hidden=False)


CASES = (
    gemma4("gemma4", TEXT, final_logit_softcapping=5.0),
    gemma4("gemma4-shared-keys", **SHARED, use_double_wide_mlp=True),
    gemma4("gemma4-keys-as-values", attention_k_eq_v=True, num_global_key_value_heads=1),
    gemma4("gemma4-experts", **EXPERTS),
    gemma4("gemma4-both-ways", ("TextModel",), use_bidirectional_attention="all"),
    gemma4("gemma4-unified", TEXT, "Gemma4Unified", attention_k_eq_v=True, num_global_key_value_heads=1),
    gemma3n("gemma3n", TEXT),
    gemma3n(
        "gemma3n-third-stream",
        altup_active_idx=2,
        altup_correct_scale=False,
        num_kv_shared_layers=0,
        intermediate_size=[50, 40, 30, 50, 40, 30],
    ),
    Case(
        "embedding-gemma2",
        of(
            "EmbeddingGemma2Text",
            num_hidden_layers=4,
            layer_types=KINDS,
            head_dim=8,
            global_head_dim=12,
            sliding_window=2,
            hidden_size_per_layer_input=6,
            embedding_dim=20,
        ),
        ("TextModel",),
        stem="EmbeddingGemma2",
        altered=scaled,
        tolerance=3e-5,
    ),
)
