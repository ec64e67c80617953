"""Inkling, whose attention has biases by distance and short convolutions, and Muse Spark, which gates residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from ..case import WORDS, Case
from .decoders import ALTERNATING
from .experts import EXPERTS, balanced, of

INKLING: Mapping[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 12,
    "sliding_window_size": 4, "d_rel": 5, "rel_extent": 6, "intermediate_size": 40, "n_routed_experts": 4,
    "n_shared_experts": 2, "mlp_layer_types": ["dense", "sparse", "sparse"], "logits_mup_width_multiplier": 3.0,
    "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding"], "max_position_embeddings": 64, "pad_token_id": 0,
    **EXPERTS,
}  # fmt: skip


def inkling(**changes: Any) -> Any:
    return lambda: transformers.InklingTextConfig(**{**INKLING, **changes})


INKLING2: Mapping[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 12,
    "sliding_window_size": 4, "d_rel": 5, "rel_extent": 6, "n_routed_experts": 4, "unpadded_vocab_size": WORDS - 1,
    "layer_types": ["hybrid_sliding", "hybrid"] * 2, "n_layers_per_attn_res_block": 2, "max_position_embeddings": 64,
    "qk_l2_clip_threshold": 2.0, "rel_l2_clip_threshold": 1.0, "mlp_gate_softcap": 0.5, "mlp_up_softcap": 0.7,
    "final_logit_softcapping": 2.0, "rms_norm_eps": 0.02, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    **EXPERTS,
}  # fmt: skip


def inkling2(**changes: Any) -> Any:
    return lambda: transformers.Inkling2TextConfig(**{**INKLING2, **changes})


SPARK: Mapping[str, Any] = {
    "head_dim": 8, "sliding_window": 4, "layer_types": ALTERNATING, "layer_rope_theta": [500.0, 0, 500.0],
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "mlp_layer_types": ["sparse", "dense", "sparse"],
    "num_local_experts": 4, "moe_hidden_size": 32, "routed_scaling_factor": 1.5, "residual_gate_temperature": 0.5,
    "qk_scale_factor": 2.5, "output_multiplier": 0.4, "post_norm_eps": 0.01, "attention_bias": True, **EXPERTS,
}  # fmt: skip
CASES = (
    Case("muse-spark", of("MuseSparkText", **SPARK), ("Model",), altered=balanced),
    Case("inkling", inkling(), ("TextModel", "ForCausalLM"), stem="Inkling", altered=balanced),
    Case("inkling2", inkling2(), ("TextModel", "ForCausalLM"), stem="Inkling2", altered=balanced, std=0.15),
    Case(
        "inkling2-long",
        inkling2(
            log_scaling_n_floor=3,
            log_scaling_alpha=0.7,
            conv_kernel_size=3,
            n_layers_per_attn_res_block=1,
            layer_types=["hybrid"] * 2,
            num_hidden_layers=2,
            scoring_func="relu",
        ),
        ("ForCausalLM",),
        stem="Inkling2",
        altered=balanced,
        absolute=True,  # the log of a token's position in its row, padding counted
        counts_pads=True,
    ),
    Case(
        "inkling-long",
        inkling(
            log_scaling_n_floor=3,
            log_scaling_alpha=0.7,
            conv_kernel_size=3,
            n_shared_experts=1,
            unpadded_vocab_size=WORDS - 1,
            layer_types=None,
            local_layer_ids=[2],
        ),
        ("ForCausalLM",),
        stem="Inkling",
        altered=balanced,
        absolute=True,  # the log of a query's place in its row, padding counted
        counts_pads=True,
    ),
)
