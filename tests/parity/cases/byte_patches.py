"""Decoders of patches of bytes."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case
from .decoders import FEW

BYTES = {"vocab_size": WORDS, "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2,
         "intermediate_size": 40, "num_key_value_heads": 2}  # fmt: skip
DEEP = {**BYTES, "hidden_size": 48}


def blt(**changes: Any) -> Any:
    """Makes a config whose threshold divides random texts in patches of 1 to 5 bytes."""
    parts = {
        "patcher_config": {**BYTES, "sliding_window": 5},
        "encoder_config": {**BYTES, "num_hidden_layers": 1, "intermediate_size": None},
        "decoder_config": {**BYTES, "hidden_size_global": 48, "cross_attn_all_layers": True},
        "global_config": DEEP,
    }
    sizes = {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [2, 3], "pad_token_id": 0}
    patching = {"local_attention_window_len": 4, "patching_threshold": 4.42}
    return lambda: transformers.BltConfig(**{"vocab_size": WORDS, **sizes, **patching, **parts, **changes})


# The reference reads padding on the left as bytes; with a cache it finds patches in the new byte alone. What it shows
# as hidden states and attentions are those of all layers of all stacks.
ALONE: dict[str, Any] = {"absolute": True, "counts_pads": True, "chunks": False, "hidden": False, "attentions": False}
CASES = (
    Case("blt", blt(use_cache=False), FEW, **ALONE),
    Case("blt-byte-by-byte", blt(use_cache=False, patch_in_forward=False, local_attention_window_len=None,
         encoder_hash_byte_group_nb_functions=2, global_config={**DEEP, "hidden_size": 40},
         decoder_config={**BYTES, "hidden_size_global": 40, "cross_attn_all_layers": False}), ("ForCausalLM",),
         **ALONE),
)  # fmt: skip
