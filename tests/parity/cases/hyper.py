"""Decoders with hyper-connections or summaries of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers

from ..case import WORDS, Case
from .decoders import FEW
from .deepseek_kin import INDEX
from .experts import EXPERTS, of
from .moe import LATENT

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


HY4: Mapping[str, Any] = {
    "head_dim": 6, "num_key_value_heads": 6, "n_routed_experts": 6, "hc_mult": 3, "hc_magnitude": 1.5,
    "pad_token_id": 0, "indexer_types": ["full", "shared", "full"], "swiglu_limit": 0.7,
    "bos_token_id": 1, "eos_token_id": 2, **LATENT, **INDEX, **EXPERTS,
}  # fmt: skip


def longcat(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "hidden_size": 48, "num_layers": 2, "num_attention_heads": 6, "ffn_hidden_size": 40}
    experts = {"moe_topk": 2, "n_routed_experts": 4, "expert_ffn_hidden_size": 24, "pad_token_id": 0, "head_dim": 6}
    entries = {**sizes, **experts, **LATENT, "max_position_embeddings": 64, **changes}
    return lambda: transformers.LongcatFlashConfig(**entries)


M3: Mapping[str, Any] = {
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 24, "dense_intermediate_size": 40,
    "shared_intermediate_size": 20, "num_local_experts": 4, "index_n_heads": 2, "index_head_dim": 8,
    "index_block_size": 3, "index_topk_blocks": 2, "layer_types": ["full_attention", *["minimax_m3_sparse"] * 2],
    "mlp_layer_types": ["dense", "sparse", "sparse"], "swiglu_limit": 0.7, "num_experts_per_tok": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
}  # fmt: skip
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
    Case(
        "longcat-flash",
        longcat(zero_expert_num=2),
        FEW,
        altered=drawn,
        reloads=False,  # without matrices of experts that do nothing, which the authors' files lack, too
    ),
    Case(
        "longcat-flash-all-work",
        longcat(zero_expert_num=0, attention_bias=True),
        ("ForCausalLM",),
        altered=drawn,
        half=False,
    ),
    Case("hy4", of("HYV4", **HY4), FEW, altered=drawn, half=False),  # which keys are chosen hangs on the last bit,
    Case("minimax-m3", of("MiniMaxM3VLText", **M3), ("ForCausalLM",), stem="MiniMaxM3VL", altered=drawn, **PADS),
    Case("minimax-m3-bare", of("MiniMaxM3VLText", **M3), ("Model",), altered=drawn, **PADS),
)
