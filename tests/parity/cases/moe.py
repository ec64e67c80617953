"""More decoders with routed experts.

Where `half` is False, rounding sends a token to other experts than float32 does: over six seeds as often in the
reference as here, and the medians of the errors are alike.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

from ..case import WORDS, Case
from .decoders import ALTERNATING, FEW, LONG, YARN
from .experts import EXPERTS, balanced, of

GLM = {"n_routed_experts": 6, "first_k_dense_replace": 1, "head_dim": 8, **EXPERTS}
LATENT = {"kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14}


def dbrx(**changes: Any) -> Any:
    attention = {"kv_n_heads": 2, "clip_qkv": 0.6, "rope_theta": 10000.0}
    experts = {"ffn_hidden_size": 50, "moe_num_experts": 5, "moe_top_k": 2, **changes}
    sizes = {"vocab_size": WORDS, "d_model": 48, "n_layers": 3, "n_heads": 6, "max_seq_len": 64}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return lambda: transformers.DbrxConfig(attn_config=attention, ffn_config=experts, **sizes, **tokens)


def corrected(model: Any, end: str) -> None:
    """Make corrections of the experts' scores that change who is chosen, and no more."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("e_score_correction_bias", "mlp.expert_bias")):
                parameter.normal_(0.0, 0.3)


CASES = (
    Case("glm4-moe", of("Glm4Moe", attention_bias=True, **GLM), FEW, altered=balanced),
    Case(
        "glm4-moe-normed-groups",
        of("Glm4Moe", use_qk_norm=True, n_group=3, topk_group=2, n_shared_experts=2, routed_scaling_factor=1.7,
           norm_topk_prob=False, **GLM),
        ("ForCausalLM",),
        altered=balanced,
        half=False,
    ),
    Case(
        "glm4-moe-lite",
        of("Glm4MoeLite", num_key_value_heads=6, n_routed_experts=6, mlp_layer_types=["sparse", "dense", "sparse"],
           **LATENT, **EXPERTS),
        FEW,
        altered=balanced,
    ),
    Case("solar-open", of("SolarOpen", n_routed_experts=6, head_dim=8, attention_bias=True, **EXPERTS), FEW,
         altered=balanced),
    Case(
        "dots1",
        of("Dots1", n_routed_experts=6, n_shared_experts=2, first_k_dense_replace=1, head_dim=8, sliding_window=4,
           layer_types=ALTERNATING, norm_topk_prob=True, **EXPERTS),
        FEW,
        altered=balanced,
        half=False,
    ),
    Case("olmoe", of("Olmoe", num_experts=5, num_experts_per_tok=2, attention_bias=True), FEW),
    Case("olmoe-clipped-normalized", of("Olmoe", num_experts=5, num_experts_per_tok=2, clip_qkv=0.6,
         norm_topk_prob=True), ("ForCausalLM",)),
    Case("flex-olmo", of("FlexOlmo", num_experts=5, num_experts_per_tok=2), FEW),
    Case(
        "minimax-m2",
        of("MiniMaxM2", num_local_experts=5, num_experts_per_tok=2, head_dim=12, rotary_dim=6),
        FEW,
        altered=balanced,
    ),
    Case(
        "ernie4.5-moe",
        of("Ernie4_5_Moe", moe_num_experts=5, moe_k=2, moe_intermediate_size=24, tie_word_embeddings=False),
        FEW,
        altered=corrected,
        half=False,
    ),
    Case(
        "ernie4.5-moe-biased-mixed",
        of("Ernie4_5_Moe", moe_num_experts=5, moe_k=2, moe_intermediate_size=24, use_bias=True,
           moe_num_shared_experts=0, moe_layer_start_index=0, moe_layer_end_index=1, moe_layer_interval=2,
           moe_norm_min=0.9),
        ("ForCausalLM",),
        altered=corrected,
    ),
    Case(
        "mellum",
        of("Mellum", num_experts=5, head_dim=8, sliding_window=4, layer_types=ALTERNATING, norm_topk_prob=False,
           mlp_layer_types=["sparse", "dense", "sparse"], **EXPERTS),
        FEW,
    ),
    Case(
        "flint",
        of("Flint", num_experts=5, head_dim=8, sliding_window=4, layer_types=ALTERNATING, mlp_only_layers=[1],
           shared_expert_intermediate_size=40, **EXPERTS),
        FEW,
        half=False,
    ),
    Case(
        "kolibri1",
        of("Kolibri1", num_experts=5, head_dim=8, sliding_window=4, layer_types=ALTERNATING,
           shared_expert_intermediate_size=40, **EXPERTS),
        FEW,
        altered=balanced,
    ),
    Case(
        "hy-v3",
        of("HYV3", num_experts=6, num_shared_experts=2, head_dim=8, mlp_layer_types=["sparse", "dense", "sparse"],
           **EXPERTS),
        FEW,
        altered=balanced,
        half=False,
    ),
    Case(
        "exaone-moe",
        of("ExaoneMoe", num_experts=6, num_shared_experts=2, sliding_window=4, layer_types=ALTERNATING, **EXPERTS),
        FEW,
        altered=balanced,
    ),
    Case("phimoe", of("Phimoe", num_local_experts=5, sliding_window=4, router_jitter_noise=0.3, attention_bias=True),
         (*FEW, "ForSequenceClassification")),
    Case(
        "phimoe-longrope-biased",
        of("Phimoe", num_local_experts=5, num_attention_heads=8, num_key_value_heads=4, lm_head_bias=True,
           rope_parameters={**LONG, "rope_theta": 500.0, "short_mscale": 1.3, "long_mscale": 1.3,
                            "original_max_position_embeddings": 64}),
        ("ForCausalLM",),
    ),
    Case(
        "cohere2-moe",
        of("Cohere2Moe", num_experts=5, head_dim=8, sliding_window=4, layer_types=ALTERNATING, rms_norm_eps=1e-5,
           mlp_layer_types=["dense", "sparse", "sparse"], prefix_dense_intermediate_size=40, num_shared_experts=2),
        FEW,
    ),
    Case(
        "cohere2-moe-sigmoid-sum",
        of("Cohere2Moe", num_experts=5, head_dim=8, sliding_window=4, sliding_window_pattern=2, logit_scale=0.3,
           first_k_dense_replace=1, num_shared_experts=1, shared_expert_combination_strategy="sum",
           expert_selection_fn="sigmoid"),
        ("ForCausalLM",),
    ),
    Case(
        "mimo-v2-flash",
        of("MiMoV2Flash", num_key_value_heads=1, n_routed_experts=6, head_dim=12, v_head_dim=8, sliding_window=4,
           layer_types=ALTERNATING, **EXPERTS),
        FEW,
        altered=balanced,
    ),
    Case(
        "afmoe",
        of("Afmoe", num_experts=5, head_dim=8, sliding_window=4, layer_types=ALTERNATING, mup_enabled=True,
           route_scale=1.7, **EXPERTS),
        FEW,
        altered=corrected,
    ),
    Case(
        "laguna",
        of("Laguna", num_experts=5, head_dim=8, sliding_window=4, layer_types=ALTERNATING,
           num_attention_heads_per_layer=[6, 4, 2], shared_expert_intermediate_size=40, moe_routed_scaling_factor=1.7,
           moe_router_logit_softcapping=1.5, **EXPERTS),
        FEW,
        altered=corrected,
        half=False,
    ),
    Case("laguna-gates-by-channel", of("Laguna", num_experts=5, head_dim=8, gating="per-element", **EXPERTS),
         ("ForCausalLM",), altered=corrected),
    Case("hunyuan-moe", of("HunYuanMoEV1", num_experts=5, moe_topk=[2, 1, 3], head_dim=8, attention_bias=True),
         (*FEW, "ForSequenceClassification"), absolute=True),
    Case("jetmoe", of("JetMoe", kv_channels=8, num_local_experts=5, rms_norm_eps=1e-3, tie_word_embeddings=False),
         (*FEW, "ForSequenceClassification")),
    Case("dbrx", dbrx(moe_normalize_expert_weights=2.0), FEW),
    Case(
        "privacy-filter",
        of("OpenAIPrivacyFilter", num_local_experts=5, num_experts_per_tok=2, head_dim=8, sliding_window=2,
           rope_parameters={**YARN, "truncate": False}, swiglu_limit=1.5),
        ("Model", "ForTokenClassification"),
        tolerance=5e-5,
    ),
)  # fmt: skip
