"""Relatives of Qwen3-MoE with windows by layer: Mellum 2 (JetBrains), Flint, Kolibri 1 (Aleph Alpha), all 2026."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.experts import GroupedTopK, SharedExpert, softmax_top_k
from ..nn.layer import Layer, Residual
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import deepseek, llama, qwen3, qwen_moe
from .common.experts import expert_rows, gated, routed, routed_rows
from .common.later_words import without_mtp
from .common.patterns import FULL, SLIDING, layer_kinds, layered_rope_entries, rotary_by_layer, rotary_of

THETAS = {FULL: 500000.0, SLIDING: 10000.0}


def window_of(config: Any, kind: str) -> int | None:
    """Return the window of a layer. Raises UnsupportedConfig for a sliding layer without one."""
    if kind == SLIDING and config.sliding_window is None:
        raise UnsupportedConfig("layer_types has sliding layers; sliding_window says no window.")
    return config.sliding_window if kind == SLIDING else None


@dataclass(kw_only=True)
class MellumConfig(llama.LlamaConfig):
    model_type = "mellum"
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}
    inert: ClassVar[tuple[str, ...]] = (
        "decoder_sparse_step",
        "mlp_only_layers",
        "use_sliding_window",
        "num_nextn_predict_layers",
        "num_mtp_layers",
        "mtp_layer_types",
        "mtp_mlp_layer_types",
    )
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 98304
    hidden_size: Size = 2304
    intermediate_size: Size = 7168
    num_hidden_layers: Count = 28
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    sliding_window: Size | None = 1024
    num_experts: Copies = 64
    num_experts_per_tok: Size = 8
    moe_intermediate_size: Size = 896
    norm_topk_prob: bool = True
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: Literal[0] = 0
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return layered_rope_entries(entries, THETAS)


@dataclass(kw_only=True)
class FlintConfig(qwen_moe.Qwen3MoeConfig):
    model_type = "flint"
    inert: ClassVar[Any] = ("use_sliding_window", "max_window_layers", "qkv_bias")

    vocab_size: Size = 150144
    num_hidden_layers: Count = 49
    head_dim: Size | None = 128
    max_position_embeddings: Size = 262144
    sliding_window: Size | None = 513
    moe_intermediate_size: Size = 512
    shared_expert_intermediate_size: Size = 1024
    num_experts_per_tok: Size = 6
    num_experts: Count = 256
    norm_topk_prob: bool = True
    mlp_only_layers: list[int] = field(default_factory=lambda: [0, 1])
    layer_types: list[str] | None = None
    router_aux_loss_coef: float = 0.0005


@dataclass(kw_only=True)
class Kolibri1Config(llama.LlamaConfig):
    model_type = "kolibri1"
    aliases: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}
    inert: ClassVar[Any] = (
        "attention_bias", "decoder_sparse_step", "intermediate_size", "mlp_only_layers", "router_aux_loss_coef",
        "use_sliding_window",
    )  # fmt: skip

    vocab_size: Size = 128000
    hidden_size: Size = 2560
    num_hidden_layers: Count = 50
    num_attention_heads: Size = 48
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 128
    max_position_embeddings: Size = 262144
    sliding_window: Size | None = 513
    layer_types: list[str] | None = None
    moe_intermediate_size: Size = 512
    shared_expert_intermediate_size: Size = 512
    num_experts_per_tok: Size = 6
    num_experts: Copies = 384
    norm_topk_prob: bool = False
    output_router_logits: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


def build(config: MellumConfig) -> Stack:
    positions, dense = rotary_by_layer(config, config.head_width), deepseek.dense_layers(config)
    kinds = layer_kinds(config, [FULL] * config.num_hidden_layers)
    rule = softmax_top_k(config.num_experts_per_tok, normalized=config.norm_topk_prob)

    def layer(i: int) -> Layer:
        attention = qwen3.attention(config, positions[kinds[i]], window_of(config, kinds[i]))
        ffn: nn.Module = llama.feed_forward(config) if dense[i] else routed(config, config.num_experts, rule)
        return llama.layer(config, attention, ffn)

    return llama.decoder(config, layer)


def with_shared(config: Any, rule: GroupedTopK, **options: Any) -> SharedExpert:
    each = routed(config, config.num_experts, rule, wide=True, **options)
    return SharedExpert(each, gated(config, config.shared_expert_intermediate_size))


def build_flint(config: FlintConfig) -> Stack:
    """Build Flint's stack: only sliding-window layers have rotary positions, and all have sinks."""
    positions, sparse, last = (
        rotary_of(config, config.head_width),
        qwen_moe.sparse(config),
        config.num_hidden_layers - 1,
    )
    kinds = layer_kinds(config, [FULL if i < 2 or i % 4 == 1 or i == last else SLIDING for i in range(last + 1)])
    count, chosen = config.num_experts, config.num_experts_per_tok

    def layer(i: int) -> Layer:
        turns = positions if kinds[i] == SLIDING else Positions()
        attention = qwen3.attention(config, turns, window_of(config, kinds[i]), sinks=True)
        rule = GroupedTopK(count, chosen, normalized=config.norm_topk_prob, corrected=False)
        ffn: nn.Module = with_shared(config, rule, exact=True) if sparse[i] else llama.feed_forward(config)
        return llama.layer(config, attention, ffn)

    return llama.decoder(config, layer)


def build_kolibri(config: Kolibri1Config) -> Stack:
    """Build Kolibri's stack: norms before and after each step, positions where a window is."""
    positions, layers = rotary_of(config, config.head_width), config.num_hidden_layers
    kinds = layer_kinds(config, [SLIDING if (i + 1) % 5 else FULL for i in range(layers)])
    count, chosen = config.num_experts, config.num_experts_per_tok

    def layer(i: int) -> Layer:
        turns = positions if kinds[i] == SLIDING or config.sliding_window is None else Positions()
        attention = qwen3.attention(config, turns, window_of(config, kinds[i]), bias=False)
        ffn = with_shared(config, GroupedTopK(count, chosen, normalized=config.norm_topk_prob, raw=True))
        first, second = (Residual(step, before=llama.norm(config), out=llama.norm(config)) for step in (attention, ffn))
        return Layer(first, second)

    return llama.decoder(config, layer)


def keys(config: MellumConfig) -> KeyMap:
    return without_mtp(llama.keys(config, {**qwen3.NORMS, **routed_rows()}))


def keys_flint(config: FlintConfig) -> KeyMap:
    sinks = {"layers.*.attention.step.sinks": "layers.*.self_attn.softmax_offset"}
    table = llama.keys(config, {**qwen3.NORMS, **expert_rows(shared="shared_expert"), **sinks})
    return replace(table, renamed=((r"\.self_attn\.sinks$", ".self_attn.softmax_offset"),))  # the reference's own name


def keys_kolibri(config: Kolibri1Config) -> KeyMap:
    norms = {"layers.*.attention.out": "layers.*.post_attn_norm", "layers.*.ffn.out": "layers.*.post_ffn_norm"}
    correction = {"layers.*.ffn.step.routed.rule.correction": "layers.*.moe.router.expert_bias"}
    renamed = (  # the reference's own names
        (r"\.post_self_attn_layernorm\.", ".post_attn_norm."),
        (r"\.post_mlp_layernorm\.", ".post_ffn_norm."),
        (r"\.mlp\.gate\.e_score_correction_bias$", ".moe.router.expert_bias"),
    )
    return replace(llama.keys(config, {**qwen3.NORMS, **expert_rows(), **norms, **correction}), renamed=renamed)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
MELLUM = llama.ARCHITECTURE.derive("Mellum", MellumConfig, build, keys=keys, heads=HEADS)
FLINT = replace(MELLUM, name="Flint", config=FlintConfig, build=build_flint, keys=keys_flint)
KOLIBRI1 = replace(MELLUM, name="Kolibri1", config=Kolibri1Config, build=build_kolibri, keys=keys_kolibri)
