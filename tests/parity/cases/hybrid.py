"""Decoders that mix state spaces or short convolutions with attention, and their relatives with experts."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import ALL, FEW
from .experts import balanced, of
from .state_space import mamba

SSM = {"mamba_n_heads": 8, "mamba_d_head": 12, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 4}
MULTIPLIERS = {"embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.4,
               "logits_scaling": 1.7}  # fmt: skip
WINDOWS = {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
           "layer_rope_theta": [0, 10000.0, 300.0]}  # fmt: skip
MIXED = ["linear_attention", "full_attention", "linear_attention"]


def granite(name: str, **changes: Any) -> Any:
    experts = {"num_local_experts": 5, "num_experts_per_tok": 2}
    return of(f"GraniteMoe{name}", **{**experts, **MULTIPLIERS, **changes})


NEMOTRON = {"mamba_num_heads": 8, "mamba_head_dim": 12, "n_groups": 2, "ssm_state_size": 6, "chunk_size": 4,
            "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 40, "n_routed_experts": 6,
            "head_dim": 8, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]}  # fmt: skip
JAMBA = {"mamba_d_state": 5, "mamba_dt_rank": 7, "attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 4,
         "num_experts_per_tok": 2}  # fmt: skip
MINIMAX = {"num_local_experts": 4, "block_size": 4, "full_attn_alpha_factor": 1.2, "full_attn_beta_factor": 0.7,
           "linear_attn_alpha_factor": 0.9, "linear_attn_beta_factor": 1.3, "mlp_alpha_factor": 0.8,
           "mlp_beta_factor": 1.1}  # fmt: skip
DECAYS = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
CONV = ["conv", "full_attention", "conv"]
LFM2 = {"conv_L_cache": 3, "layer_types": CONV}
LFM2_MOE = {**LFM2, "moe_intermediate_size": 24, "num_dense_layers": 1, "num_experts": 5, "num_experts_per_tok": 2}


def biased(model: Any, end: str) -> None:
    """Corrections of the experts' scores, which are buffers."""
    for name, buffer in model.named_buffers():
        if name.endswith("expert_bias"):
            buffer.normal_(0.0, 0.3)


CASES = (
    Case("granitemoe", granite(""), FEW),
    Case("granitemoeshared", granite("Shared", shared_intermediate_size=28, tie_word_embeddings=True), FEW),
    Case("granitemoeshared-none", granite("Shared", attention_bias=True), ("ForCausalLM",)),
    # The reference's attentions are those before the sinks take their part.
    Case("granite-swa", of("GraniteSWA", **MULTIPLIERS, **WINDOWS), FEW, attentions=False),
    Case("granitemoe-swa", granite("SWA", **WINDOWS, shared_intermediate_size=28), FEW, attentions=False),
    Case("granitemoehybrid", granite("Hybrid", **SSM, shared_intermediate_size=28, layer_types=MIXED), FEW),
    Case(
        "granitemoehybrid-dense-rope",
        granite("Hybrid", **{**SSM, "mamba_n_groups": 1}, shared_intermediate_size=28, num_local_experts=0,
                layer_types=MIXED, position_embedding_type="rope", mamba_conv_bias=False, tie_word_embeddings=True),
        ("ForCausalLM",),
    ),
    Case("bamba", of("Bamba", **SSM, attn_layer_indices=[1]), FEW),
    # With a bias of the mixer's projection the reference lets padding on the left into its states.
    Case("bamba-biased", of("Bamba", **SSM, mamba_proj_bias=True, attention_bias=True, mlp_bias=True,
         attn_layer_indices=[1]), ("Model",), absolute=True),
    Case("nemotron-h", of("NemotronH", **NEMOTRON, n_group=3, topk_group=2, routed_scaling_factor=1.7), FEW,
         altered=balanced),
    Case("nemotron-h-latent", of("NemotronH", **NEMOTRON, moe_latent_size=24, mlp_bias=True, use_conv_bias=False,
         norm_topk_prob=False), ("ForCausalLM",), altered=balanced),
    Case("jamba", of("Jamba", **JAMBA), (*FEW, "ForSequenceClassification")),
    Case("falcon-mamba", mamba("FalconMamba"), FEW, attentions=False),
    # The reference's convolution reads padding on the left, and its beams do not carry their states along.
    Case("recurrent-gemma", of("RecurrentGemma", lru_width=60, attention_window_size=4,
         block_types=["recurrent", "attention"]), FEW, absolute=True, beams=False),
    # The reference shows states of lightning attention as attentions, and its beams do not carry them along.
    Case("minimax", of("MiniMax", **MINIMAX), ALL, attentions=False, beams=False, unused=DECAYS),
    Case("lfm2", of("Lfm2", **LFM2, block_multiple_of=16), FEW),
    Case("lfm2-biased", of("Lfm2", conv_L_cache=2, conv_bias=True, block_auto_adjust_ff_dim=False, full_attn_idxs=[2],
         tie_word_embeddings=False, head_dim=8), ("Model",), absolute=True),
    Case("lfm2-moe", of("Lfm2Moe", **LFM2_MOE, routed_scaling_factor=1.6), FEW, altered=biased),
    Case("lfm3", of("Lfm3", head_dim=12, conv_L_cache=4, sliding_window=4,
         layer_types=["conv", "sliding_attention", "full_attention"]), FEW),
    Case("lfm3-plain", of("Lfm3", head_dim=8, conv_L_cache=4, layer_types=["conv", "full_attention", "conv"],
         use_sandwich_norm=False, use_attention_gate=False, attention_bias=True), ("ForCausalLM",)),
    Case("lfm2-moe-plain", of("Lfm2Moe", **LFM2_MOE, use_expert_bias=False, norm_topk_prob=False), ("ForCausalLM",)),
)  # fmt: skip
