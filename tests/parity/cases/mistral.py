"""Ministral 3 and Mistral Small 4, whose queries are scaled by their positions."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import ALL, FEW, YARN
from .decoders import of as decoder

GROWING = {**YARN, "original_max_position_embeddings": 4, "llama_4_scaling_beta": 0.4}  # texts have up to 11 tokens
SMALL4 = {
    "kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14,
    "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "num_key_value_heads": 4, "first_k_dense_replace": 1, "hidden_size": 48, "intermediate_size": 48,
}  # fmt: skip


def of(name: str, **changes: Any) -> Any:
    """Makes a config, with rotary parameters of its own: the reference adds to them."""
    rope = {**GROWING, **changes.pop("rope", {})}
    return lambda: decoder(name, rope_parameters=dict(rope), **changes)()


def of4(**changes: Any) -> Any:
    return of("Mistral4", **{**SMALL4, **changes})


CASES = (
    Case("ministral3", of("Ministral3", head_dim=10), ALL, absolute=True),
    Case("ministral3-window", of("Ministral3", head_dim=10, sliding_window=4), FEW, absolute=True),
    Case("ministral3-short-texts", of("Ministral3", rope={"original_max_position_embeddings": 64}), ("ForCausalLM",)),
    Case(
        "mistral4",
        of4(),
        ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification"),
        absolute=True,
    ),
    Case(
        "mistral4-groups",
        of4(n_group=3, topk_group=2, norm_topk_prob=False, routed_scaling_factor=1.7),
        FEW,
        absolute=True,
        half=False,  # rounding chooses other groups
    ),
    Case("mistral4-full-queries", of4(q_lora_rank=None, rope_interleave=False), FEW, absolute=True),
)
