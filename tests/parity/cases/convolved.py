"""ZAYA, whose queries and keys are convolved and whose routers read each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from ..case import WORDS, Case
from .decoders import FEW


def balanced(model: Any, end: str) -> None:
    """Balances of experts, which are buffers. The last stays -1, as the reference reads no other from a file."""
    for name, buffer in model.named_buffers():
        if name.endswith("balancing_biases"):
            buffer.normal_(-1.0, 0.1)  # so that some tokens pass no expert
            buffer[-1] = -1.0


MIXED = ["hybrid", "hybrid_sliding", "hybrid"]
ROPE = {kind: {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": part}
        for kind, theta, part in (("hybrid", 500.0, 0.5), ("hybrid_sliding", 100.0, 1.0))}  # fmt: skip
ZAYA: Mapping[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 8, "moe_intermediate_size": 24, "num_experts": 4, "router_hidden_size": 20, "layer_types": MIXED,
    "sliding_window": 4, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def zaya(**changes: Any) -> Any:
    return lambda: transformers.ZayaConfig(**{**ZAYA, **changes})


CASES = (
    Case("zaya", zaya(), FEW, altered=balanced),
    Case(
        "zaya-biased",
        zaya(head_dim=12, attention_bias=True, lm_head_bias=True, tie_word_embeddings=False, cca_time0=3, cca_time1=4,
             sliding_window=3, rope_parameters=ROPE),
        ("ForCausalLM",),
        altered=balanced,
        absolute=True,  # the reference's convolutions read the biases of padding
        counts_pads=True,
    ),
)  # fmt: skip
