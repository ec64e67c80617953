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

SHARPER = {**YARN, "mscale": 0.7, "mscale_all_dim": 0.9}
FEW3 = ("Model", "ForCausalLM", "ForSequenceClassification")


def deepseek(version: str, **changes: Any) -> Any:
    latent = {"kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14}
    experts = {"n_routed_experts": 6, "n_shared_experts": 2, "first_k_dense_replace": 1, **EXPERTS}
    return of(f"Deepseek{version}", **{"num_key_value_heads": 4, **latent, **experts, **changes})


def balanced(model: Any, end: str) -> None:
    """Corrections of the experts' scores, which are buffers."""
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(0.0, 0.3)


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
    Case("deepseek-v2", deepseek("V2"), FEW3),
    Case("deepseek-v2-groups-yarn", deepseek("V2", n_group=3, topk_group=2, topk_method="group_limited_greedy",
         attention_bias=True, routed_scaling_factor=1.7, rope_parameters=SHARPER),
         FEW3),
    Case("deepseek-v2-full-queries", deepseek("V2", q_lora_rank=None, tie_word_embeddings=True), FEW),
    Case("deepseek-v3", deepseek("V3", n_group=3, topk_group=2), (*FEW3, "ForTokenClassification"), altered=balanced),
    Case("deepseek-v3-apart-yarn", deepseek("V3", n_group=1, topk_group=1, rope_interleave=False, norm_topk_prob=False,
         q_lora_rank=None, rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}), FEW, altered=balanced),
)  # fmt: skip
