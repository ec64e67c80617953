"""Llama 4: chunks shorter than the texts, layers without positions, experts that read scaled inputs."""

from __future__ import annotations

from ..case import Case
from .experts import of

LLAMA4 = {"head_dim": 8, "intermediate_size_mlp": 40, "num_local_experts": 5, "attention_chunk_size": 4,
          "no_rope_layers": [1, 0, 1]}  # fmt: skip
SCOUT_ROPE = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 16.0, "low_freq_factor": 1.0,
              "high_freq_factor": 1.0, "original_max_position_embeddings": 16}  # fmt: skip

CASES = (
    Case(
        "llama4",
        of("Llama4Text", interleave_moe_layer_step=2, rope_parameters=SCOUT_ROPE, **LLAMA4),
        ("ForCausalLM",),
        stem="Llama4",
    ),
    Case("llama4-bare", of("Llama4Text", rope_parameters=SCOUT_ROPE, **LLAMA4), ("Model",)),
    Case(
        "llama4-tuned",  # queries are scaled from the third token on; the reference counts padding at the left, too
        of("Llama4Text", floor_scale=3, attn_scale=0.6, use_qk_norm=False, num_experts_per_tok=2, attention_bias=True,
           moe_layers=[0, 2], layer_types=["full_attention", "chunked_attention", "chunked_attention"], **LLAMA4),
        ("ForCausalLM",),
        stem="Llama4",
        absolute=True,
    ),
)  # fmt: skip
