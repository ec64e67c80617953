"""A.X-K1 (SK Telecom, 2026): DeepSeek-V3 with a norm on what the experts of a layer give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import OrZero
from ..config import Copies, Size
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from . import deepseek, llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class AXK1Config(deepseek.DeepseekV3Config):
    model_type = "axk1"

    vocab_size: Size = 163840
    num_attention_heads: Size = 64
    num_key_value_heads: Size | None = 64
    n_routed_experts: Copies = 192
    first_k_dense_replace: int = 1
    q_lora_rank: Size = 1536
    n_group: Size = 8
    topk_group: Size = 4
    max_position_embeddings: Size = 32768
    mlp_layer_types: list[str] | None = None
    bos_token_id: int | None = 163691
    eos_token_id: int | list[int] | None = 163691


def build(config: Any) -> Stack:
    positions, dense = rotary_of(config, config.qk_rope_head_dim), deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        attention = deepseek.attention(config, positions, deepseek.score_scale(config))
        if dense[i]:
            return llama.layer(config, attention, llama.feed_forward(config))
        experts = deepseek.experts(config, deepseek.rule3)
        sparse = Residual(experts, before=llama.norm(config), out=llama.norm(config))
        return Layer(Residual(attention, before=llama.norm(config)), sparse)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    """Return the key map. Published files have no corrections of scores, and norms of dense layers that nothing reads.

    Both names of the norm are read: the files' own, and that inside the experts' block.
    """
    table = deepseek.keys(config)
    dense = "|".join(str(i) for i, alone in enumerate(deepseek.dense_layers(config)) if alone)
    unread = rf"^(model\.)?layers\.({dense})\.post_mlp_layernorm\." if dense else r"^$"
    rows = {
        **table.rows,
        "layers.*.ffn.out": "layers.*.post_mlp_layernorm",
        "layers.*.ffn.step.routed.rule.correction": OrZero("layers.*.mlp.gate.e_score_correction_bias"),
    }
    return replace(
        table,
        rows=rows,
        renamed=(*table.renamed, (r"\.mlp\.post_mlp_layernorm\.", ".post_mlp_layernorm.")),
        ignored=(*table.ignored, unread),
    )


ARCHITECTURE = replace(
    deepseek.V3, name="AXK1", config=AXK1Config, build=build, keys=keys, layouts={}, foreign_config={}
)
