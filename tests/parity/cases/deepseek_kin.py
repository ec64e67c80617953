"""Relatives of DeepSeek-V3, some of whose queries see the keys that an index has chosen.

The index has twenty heads, so that no key scores exactly zero: ties would be broken by the order of a sort.
"""

from __future__ import annotations

from typing import Any

from ..case import Case
from .decoders import FEW
from .experts import EXPERTS, FEW3, SHARPER, balanced, of
from .moe import LATENT

INDEX = {"index_topk": 4, "index_n_heads": 20, "index_head_dim": 16}


def chosen(name: str, **changes: Any) -> Any:
    sizes = {"num_key_value_heads": 6, "n_routed_experts": 6, "first_k_dense_replace": 1, "pad_token_id": 0}
    return of(name, **{**sizes, **LATENT, **INDEX, **EXPERTS, **changes})


AXK1 = {"num_key_value_heads": 6, "n_routed_experts": 6, "n_group": 3, "topk_group": 2, **LATENT, **EXPERTS}

CASES = (
    Case("axk1", of("AXK1", **AXK1), (*FEW3, "ForTokenClassification"), altered=balanced),
    Case("deepseek-v3.2", chosen("DeepseekV32", n_group=3, topk_group=2), FEW, altered=balanced),
    Case(
        "deepseek-v3.2-yarn-biased",
        chosen("DeepseekV32", n_group=1, topk_group=1, rope_parameters=SHARPER, attention_bias=True, index_topk=5),
        ("ForCausalLM",),
        altered=balanced,
    ),
    Case("axk2", chosen("AXK2", gated_norm_rank=5), (*FEW3, "ForTokenClassification"), altered=balanced),
    Case(
        "axk2-groups-biased",
        chosen(
            "AXK2",
            n_group=3,
            topk_group=1,
            num_experts_per_tok=3,
            gated_norm_rank=3,
            attention_bias=True,
            first_k_dense_replace=0,
        ),
        ("ForCausalLM",),
        altered=balanced,
    ),
    Case("glm-5", chosen("GlmMoeDsa", mlp_layer_types=["sparse", "dense", "sparse"]), FEW, altered=balanced),
    Case(
        "glm-5-shared-index",
        chosen("GlmMoeDsa", indexer_types=["full", "shared", "full"]),
        ("ForCausalLM",),
        altered=balanced,
    ),
)
