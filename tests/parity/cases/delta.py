"""Hybrids of linear attention with a delta rule and full attention."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import ALL, FEW
from .decoders import of as decoder
from .experts import balanced

DELTA = {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
}
CLOSE = 1e-4  # as the chunked form and the single steps of the reference, by which it reads the same texts, differ
EXPERTS = {
    "hidden_size": 48,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
SMALL = {"num_hidden_layers": 3, "hidden_size": 48}
UNTURNED = {"rope_theta": None, "rope_type": "default"}
MIXED = ["full_attention", "linear_attention", "linear_attention"]


def of(name: str, **changes: Any) -> Any:
    return decoder(name, **{**DELTA, **changes})


def kimi(**changes: Any) -> Any:
    latent = {"kv_lora_rank": 20, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14}
    sizes = {"num_key_value_heads": 6, "linear_head_dim": 8, "linear_num_heads": 3, "hidden_size": 48}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    kinds = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
    return decoder("KimiLinear", **{**sizes, **latent, **experts, **kinds, **changes})


NEXT: dict[str, Any] = {  # layers 1 and 2 attend to the pools that layer 1 chooses
    "hidden_size": 48, "num_hidden_layers": 4, "num_key_value_heads": 6, "linear_head_dim": 8, "linear_num_heads": 3,
    "kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 16, "v_head_dim": 14, "n_routed_experts": 6,
    "index_topk": 4, "index_kpool": 2, "index_n_heads": 20, "index_head_dim": 12, "hc_mult": 3, "rms_norm_eps": 0.02,
    "layer_types": ["linear_attention", "indexed_attention", "full_attention", "linear_attention"],
    "indexer_types": ["full", "full", "shared", "full"], "mlp_layer_types": ["dense", "sparse", "sparse", "dense"],
    "swiglu_limit": 0.7, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
}  # fmt: skip


def glm5(**changes: Any) -> Any:
    return decoder("Glm5NextText", **{**NEXT, **changes})


CASES = (
    Case("qwen3-next", of("Qwen3Next", **EXPERTS), ALL, tolerance=CLOSE),
    Case("qwen3-next-dense-biased", of("Qwen3Next", **EXPERTS, mlp_only_layers=[1], decoder_sparse_step=3,
         norm_topk_prob=False, attention_bias=True, tie_word_embeddings=True), ("ForCausalLM",),
         tolerance=CLOSE),
    Case("qwen3.5", of("Qwen3_5Text"), ("TextModel", "ForCausalLM", "TextForSequenceClassification"), stem="Qwen3_5",
         tolerance=CLOSE),
    Case("qwen3.5-other-order", of("Qwen3_5Text", num_hidden_layers=3, layer_types=MIXED, linear_conv_kernel_dim=2,
         linear_num_key_heads=4, rope_parameters={"rope_theta": 100.0, "partial_rotary_factor": 0.5}),
         ("ForCausalLM",), stem="Qwen3_5", tolerance=CLOSE),
    Case("qwen3.5-long", of("Qwen3_5Text", num_hidden_layers=2, layer_types=MIXED[:2], max_position_embeddings=256),
         ("ForCausalLM",), stem="Qwen3_5", lengths=(130, 65, 64, 63, 1), tolerance=CLOSE),
    Case("qwen3.5-moe", of("Qwen3_5MoeText", **EXPERTS), ("TextModel", "ForCausalLM"), stem="Qwen3_5Moe",
         tolerance=CLOSE),
    Case("olmo-hybrid", decoder("OlmoHybrid", **SMALL), FEW, tolerance=CLOSE),
    Case("olmo-hybrid-unturned", decoder("OlmoHybrid", **SMALL, linear_num_key_heads=3, linear_key_head_dim=6,
         linear_allow_neg_eigval=False, layer_types=MIXED, attention_bias=True, rope_parameters=UNTURNED),
         ("ForCausalLM",), tolerance=CLOSE),
    Case("glm5-next", glm5(), ("TextModel",), stem="Glm5Next", tolerance=CLOSE, altered=balanced),
    Case("glm5-next-biased", glm5(linear_lower_bound=None, index_kpool=3, index_topk=3, n_group=3, topk_group=2,
         norm_topk_prob=False, n_shared_experts=2, linear_conv_kernel_dim=3, attention_bias=True, hc_mult=2,
         indexer_types=["full"] * 4), ("TextModel",), stem="Glm5Next", tolerance=CLOSE, altered=balanced,
         lengths=(37, 16, 17)),
    Case("kimi-linear", kimi(), FEW, tolerance=CLOSE, altered=balanced),
    Case("kimi-linear-low-rank", kimi(q_lora_rank=28, num_local_experts=6, n_group=3, topk_group=2,
         norm_topk_prob=False, n_shared_experts=2, linear_conv_kernel_dim=3, attention_bias=True),
         ("ForCausalLM",), tolerance=CLOSE, altered=balanced, lengths=(37, 16, 17)),
)  # fmt: skip
