"""State-space decoders, and one that has attention beside it."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import Case
from .decoders import FEW, SIZES, of

NONE = ("num_attention_heads", "num_key_value_heads", "max_position_embeddings")
MAMBA2 = {"num_heads": 8, "head_dim": 9, "n_groups": 2, "state_size": 6, "chunk_size": 4}
H1 = {"mamba_d_ssm": 40, "mamba_n_heads": 8, "mamba_d_head": 5, "mamba_n_groups": 2, "mamba_d_state": 6,
      "mamba_chunk_size": 4}  # fmt: skip
SCALES = {
    "lm_head_multiplier": 0.4,
    "embedding_multiplier": 3.0,
    "mlp_multipliers": [0.7, 1.4],
    "key_multiplier": 0.6,
    "attention_in_multiplier": 1.3,
    "attention_out_multiplier": 0.8,
    "ssm_multipliers": [0.5, 0.9, 1.2, 1.5, 0.7],
    "ssm_in_multiplier": 1.1,
    "ssm_out_multiplier": 0.9,
}


def mamba(name: str, **changes: Any) -> Any:
    sizes = {k: v for k, v in SIZES.items() if k not in NONE} | {"state_size": 5, "intermediate_size": 72}
    return lambda: getattr(transformers, f"{name}Config")(**{**sizes, **changes})


# Absolute: with biases the reference lets padding on the left into its states.
CASES = (
    Case("mamba", mamba("Mamba"), FEW, attentions=False),
    Case("mamba-biased-untied", mamba("Mamba", use_bias=True, use_conv_bias=False, tie_word_embeddings=False,
         conv_kernel=3, time_step_rank=7, residual_in_fp32=False), FEW, attentions=False, absolute=True),
    Case("mamba2", mamba("Mamba2", **MAMBA2), FEW, attentions=False),
    Case("mamba2-biased-tied-limited", mamba("Mamba2", **{**MAMBA2, "n_groups": 1}, use_bias=True, use_conv_bias=False,
         tie_word_embeddings=True, conv_kernel=2, residual_in_fp32=False), FEW, attentions=False, absolute=True),
    Case("falcon-h1", of("FalconH1", **H1), FEW),
    Case("falcon-h1-scaled", of("FalconH1", **H1, **SCALES, mamba_rms_norm=True, projectors_bias=True,
         mamba_proj_bias=True, attention_bias=True, mlp_bias=True, tie_word_embeddings=True), FEW, absolute=True),
    Case("falcon-h1-gated-first", of("FalconH1", **H1, mamba_rms_norm=True, mamba_norm_before_gate=False,
         mamba_conv_bias=False), FEW),
)  # fmt: skip
