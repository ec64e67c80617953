"""Decoders with hyper-connections or summaries of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..case import WORDS, Case
from .decoders import FEW
from .experts import EXPERTS, of

KINDS = ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"]
V4: Mapping[str, Any] = {
    "head_dim": 16, "partial_rotary_factor": 0.5, "num_key_value_heads": 1, "q_lora_rank": 28, "o_groups": 2,
    "o_lora_rank": 10, "index_n_heads": 20, "index_head_dim": 16, "index_topk": 2, "n_routed_experts": 6, "hc_mult": 3,
    "sliding_window": 4, "layer_types": KINDS, "mlp_layer_types": ["hash_moe", "moe", "moe"], "pad_token_id": 0,
    "compress_rates": {KINDS[1]: 2, KINDS[2]: 4}, "swiglu_limit": 0.7, **EXPERTS,
}  # fmt: skip


PADS: Mapping[str, Any] = {
    "absolute": True,
    "counts_pads": True,
}  # padding at the left shifts the windows that are summarized


def drawn(model: Any, end: str) -> None:
    """Corrections of the experts' scores and the tables of hashed ones, which are buffers."""
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(0.0, 0.3)
        if name.endswith("tid2eid"):
            buffer.copy_(torch.stack([torch.randperm(6)[:2] for _ in range(WORDS)]))


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
CASES = (
    Case("deepseek-v4", of("DeepseekV4", **V4), FEW, altered=drawn, attentions=False, **PADS),
    Case(
        "deepseek-v4-yarn-sigmoid",
        of("DeepseekV4", **{**V4, "layer_types": [KINDS[1]] * 3, "scoring_func": "sigmoid", "rope_parameters": YARN}),
        ("ForCausalLM",),
        altered=drawn,
        attentions=False,
        half=False,  # two summaries have nearly equal scores
        **PADS,
    ),
)
