"""Decoders that mix state spaces or short convolutions with attention, and their relatives with experts."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import FEW
from .experts import of

SSM = {"mamba_n_heads": 8, "mamba_d_head": 12, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 4}
MULTIPLIERS = {"embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.4,
               "logits_scaling": 1.7}  # fmt: skip
MIXED = ["linear_attention", "full_attention", "linear_attention"]


def granite(name: str, **changes: Any) -> Any:
    experts = {"num_local_experts": 5, "num_experts_per_tok": 2}
    return of(f"GraniteMoe{name}", **{**experts, **MULTIPLIERS, **changes})


CASES = (
    Case("granitemoe", granite(""), FEW),
    Case("granitemoeshared", granite("Shared", shared_intermediate_size=28, tie_word_embeddings=True), FEW),
    Case("granitemoeshared-none", granite("Shared", attention_bias=True), ("ForCausalLM",)),
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
)  # fmt: skip
