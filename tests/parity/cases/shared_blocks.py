"""State spaces with attention blocks that layers share: Zamba."""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import of as decoder

ENDS = ("Model", "ForCausalLM", "ForSequenceClassification")
KINDS = ["linear_attention", "hybrid", "hybrid", "hybrid"]
SIZES = {"num_hidden_layers": 4, "layers_block_type": KINDS, "mamba_d_state": 5, "hidden_size": 48,
         "num_key_value_heads": 6, "tie_word_embeddings": True}  # fmt: skip
SECOND = {"n_mamba_heads": 8, "mamba_ngroups": 2, "num_mem_blocks": 2, "adapter_rank": 5, "chunk_size": 4}


def of(name: str, **changes: Any) -> Any:
    return decoder(name, **{**SIZES, **changes})


CASES = (
    Case("zamba", of("Zamba", mamba_dt_rank=7), ENDS),
    Case("zamba-untied", of("Zamba", n_mamba_heads=3, mamba_conv_bias=False, num_key_value_heads=2,
         hidden_mamba_act="gelu", layers_block_type=None, tie_word_embeddings=False), ("ForCausalLM",)),
    # With biases, the reference's convolutions read padding at the left.
    Case("zamba-biased", of("Zamba", mamba_proj_bias=True), ("Model",), absolute=True),
    Case("zamba2", of("Zamba2", **SECOND), ENDS),
    Case("zamba2-adapters-rope", of("Zamba2", **{**SECOND, "num_mem_blocks": 1}, use_shared_attention_adapter=True,
         use_mem_rope=True, rope_theta=300.0, intermediate_size=None), ("ForCausalLM",)),
    # The reference bounds the time steps of whole texts, and not those of single tokens.
    Case("zamba2-blocks-apart", of("Zamba2", **SECOND, tie_word_embeddings=False), ("ForCausalLM",),
         unused=("adapter_list",)),  # each layer has those of all, and reads its own
    Case("zamba2-biased", of("Zamba2", **SECOND, add_bias_linear=True, time_step_min=0.9), ("Model",), absolute=True),
)  # fmt: skip
