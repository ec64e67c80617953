"""Hunyuan 3 (Tencent, 2026): Qwen 3's attention, DeepSeek's routing with one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..nn.experts import GroupedTopK, SharedExpert
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import deepseek, llama, qwen3
from .common.experts import ROUTED, expert_rows, gated, routed
from .common.later_words import without_later_layers
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class HYV3Config(llama.LlamaConfig):
    model_type = "hy_v3"
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}
    inert = ("enable_moe_fp32_combine", "num_nextn_predict_layers")
    theta: ClassVar[float] = 11158840.0

    vocab_size: Size = 120832
    intermediate_size: Size = 13312
    num_hidden_layers: Count = 80
    num_attention_heads: Size = 64
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    num_experts: Copies = 192
    num_experts_per_tok: Size = 8
    num_shared_experts: Size = 1
    moe_intermediate_size: Size = 1536
    router_scaling_factor: float = 2.826
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: Literal[1] = 1
    output_router_logits: bool = False
    initializer_range: float = 0.006
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


def build(config: HYV3Config) -> Stack:
    positions, dense = rotary_of(config, config.head_width), deepseek.dense_layers(config)
    count, inner = config.num_experts, config.moe_intermediate_size * config.num_shared_experts

    def layer(i: int) -> Layer:
        attention = qwen3.attention(config, positions)
        if dense[i]:
            return llama.layer(config, attention, llama.feed_forward(config))
        rule = GroupedTopK(count, config.num_experts_per_tok, scale=config.router_scaling_factor)
        shared = gated(config, inner, bias=config.mlp_bias)
        return llama.layer(config, attention, SharedExpert(routed(config, count, rule, wide=True), shared))

    return llama.decoder(config, layer)


RENAMED = (  # the reference's own names
    (r"\.mlp\.gate\.", ".mlp.router.gate."),
    (r"\.mlp\.e_score_correction_bias$", ".mlp.expert_bias"),
    (r"\.mlp\.shared_experts\.", ".mlp.shared_mlp."),
)


def keys(config: HYV3Config) -> KeyMap:
    correction = {f"{ROUTED}.rule.correction": "layers.*.mlp.expert_bias"}
    rows = {**qwen3.NORMS, **expert_rows(shared="shared_mlp", router="router.gate"), **correction}
    return without_later_layers(config, replace(llama.keys(config, rows), renamed=RENAMED))


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("HYV3", HYV3Config, build, keys=keys, heads=HEADS)
