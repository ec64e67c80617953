"""Ling 3.0: delta attention with bounded rates, latent attention with gates of heads, routed experts."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import FEW
from .decoders import of as decoder
from .delta import CLOSE
from .experts import balanced

LATENT = {"kv_lora_rank": 20, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_group": 2, "topk_group": 1}


def of(**changes: Any) -> Any:
    sizes = {"num_key_value_heads": 6, "head_dim": 8, "hidden_size": 48, "layer_group_size": 2}
    return decoder("BailingHybrid", **{**sizes, **LATENT, **EXPERTS, "first_k_dense_replace": 1, **changes})


CASES = (
    Case("bailing-hybrid", of(), FEW, tolerance=CLOSE, altered=balanced),
    Case("bailing-hybrid-soft", of(kda_safe_gate=False, n_shared_experts=2, short_conv_kernel_size=3,
         norm_topk_prob=False, attention_bias=True, layer_types=["full_attention", "linear_attention",
         "linear_attention"]), ("ForCausalLM",), tolerance=CLOSE, altered=balanced, lengths=(37, 16, 17)),
)  # fmt: skip
