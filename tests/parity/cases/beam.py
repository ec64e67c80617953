"""Beam: gated attention, experts in groups, and sums scaled by depth."""

from __future__ import annotations

from ..case import Case
from .decoders import ALTERNATING, FEW
from .experts import EXPERTS, balanced, of

BEAM = {"head_dim": 8, "sliding_window": 4, "num_experts": 6, "n_group": 3, "topk_group": 2, **EXPERTS,
        "layer_types": ALTERNATING, "mlp_layer_types": ["dense", "sparse", "sparse"]}  # fmt: skip
TURNED = {"rope_type": "default", "rope_theta": 300.0}

CASES = (
    # Queries of layers without rotary positions grow with their places.
    Case("beam", of("Beam", **BEAM), FEW, absolute=True, altered=balanced),
    Case("beam-turned", of("Beam", **{**BEAM, "layer_types": ["full_attention"] * 3}, attention_bias=True,
         norm_topk_prob=False, tie_word_embeddings=True, final_logit_softcapping=None,
         rope_parameters={"full_attention": TURNED, "sliding_attention": None}), ("ForCausalLM",), altered=balanced),
)  # fmt: skip
