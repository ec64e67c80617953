"""Decoders with routed experts."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import ALL, ALTERNATING, ENDS, FEW, YARN
from .decoders import of as decoder


def of(name: str, **changes: Any) -> Any:
    """With widths that the reference's grouped products take."""
    return decoder(name, **{"hidden_size": 48, "intermediate_size": 48, **changes})


EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}

CASES = (
    Case("mixtral", of("Mixtral", num_local_experts=5, sliding_window=4), ALL),
    Case(
        "qwen2-moe",
        of("Qwen2Moe", num_experts=5, shared_expert_intermediate_size=24, decoder_sparse_step=2, **EXPERTS),
        ALL,
    ),
    Case(
        "qwen2-moe-normalized",
        of("Qwen2Moe", num_experts=4, shared_expert_intermediate_size=24, norm_topk_prob=True, qkv_bias=False,
           mlp_only_layers=[1], **EXPERTS),
        FEW,
    ),
    Case("qwen3-moe", of("Qwen3Moe", num_experts=5, head_dim=8, norm_topk_prob=True, **EXPERTS), ALL),
    Case("qwen3-moe-mixed", of("Qwen3Moe", num_experts=4, head_dim=8, mlp_only_layers=[0], **EXPERTS), FEW),
    Case(
        "gpt-oss",
        of("GptOss", num_local_experts=4, num_experts_per_tok=2, head_dim=8, sliding_window=4, layer_types=ALTERNATING,
           rope_parameters={**YARN, "truncate": False}, swiglu_limit=1.5),
        ENDS,
    ),
)  # fmt: skip
