"""Decoders with recurrent states in place of attention."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import Case
from .decoders import FEW, SIZES

# The reference's cache has keys and values in multiples of 64 channels.
XLSTM = {"hidden_size": 64, "num_heads": 4, "qk_dim_factor": 1.0, "ffn_round_up_to_multiple_of": 16}
NONE = ("intermediate_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings")


def of(name: str, **changes: Any) -> Any:
    sizes = {k: v for k, v in SIZES.items() if k not in NONE}
    return lambda: getattr(transformers, f"{name}Config")(**{**sizes, **changes})


# Absolute: the reference reads padding into the states. It shows RWKV's time mix as attentions, and its beams fail with
# a cache of states.
PADS: dict[str, Any] = {"absolute": True, "counts_pads": True, "attentions": False}
CASES = (
    # With a cache the reference reads the whole text again in each step, on top of its states.
    Case("rwkv", of("Rwkv", use_cache=False), FEW, **PADS),
    Case("rwkv-rescaled-tied", of("Rwkv", use_cache=False, rescale_every=2, tie_word_embeddings=True), ("ForCausalLM",),
         **PADS),
    Case("xlstm", of("xLSTM", **XLSTM), FEW, **PADS, beams=False),
    Case("xlstm-narrow-keys", of("xLSTM", **{**XLSTM, "hidden_size": 128, "qk_dim_factor": 0.5}, gate_soft_cap=3.0,
         output_logit_soft_cap=7.0), ("ForCausalLM",), **PADS, beams=False, std=0.1,
         tolerance=6e-5),  # the reference is 2e-5 from its own numbers in float64, ours 3e-6
)  # fmt: skip
