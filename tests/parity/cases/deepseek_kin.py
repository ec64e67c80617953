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
    entries = {**sizes, **LATENT, **INDEX, **EXPERTS, **changes}
    return of(name, **{key: value for key, value in entries.items() if value is not None})


LARGE4: dict[str, Any] = {  # layers 0, 3 and 4 turn, and layer 4 chooses keys although it has none of its own
    "num_hidden_layers": 5, "no_rope_layers": [1, 0, 0, 1, 1], "kv_source_layers": [0, 1, 1, 0, 0], "n_group": 3,
    "indexer_types": ["full", "full", "shared", "shared", "full"], "topk_group": 2, "routed_scaling_factor": 1.7,
    "mlp_layer_types": ["dense", *["sparse"] * 4], "final_logit_softcapping": 3.0, "q_lora_rank": None,
    "rms_norm_eps": 0.02,
}  # fmt: skip


def tuned(model: Any, end: str) -> None:
    """Frequencies that were learned, which are a buffer."""
    model.rotary_emb.alpha.normal_(0.0, 0.3)


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
    Case(
        "mistral-large4",
        chosen("MistralLarge4Text", **LARGE4),
        ("TextModel",),
        stem="MistralLarge4",
        altered=tuned,
        absolute=True,  # queries are scaled by their places
    ),
    Case(
        "mistral-large4-biased",
        chosen(
            "MistralLarge4Text",
            q_lora_rank=None,
            attention_bias=True,
            rope_parameters=SHARPER,
            n_shared_experts=2,
            index_topk=5,
            no_rope_layers=[0, 1, 1],
        ),
        ("TextModel",),
        stem="MistralLarge4",
        altered=tuned,
        absolute=True,
    ),
)
