"""Granite MoE (IBM, 2024, arXiv:2408.13359) and its forms with a shared expert and with state spaces (Granite 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Part, Slice, SlicePart, Source
from ..config import Copies, Count, Size
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert, top_k_softmax
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import bamba, granite, llama, mamba
from .common import gguf
from .common.experts import ALONE, DENSE, ROUTED, SHARED
from .common.patterns import FULL, LINEAR, layer_kinds, rotary_of

MOE = "layers.*.block_sparse_moe"
STORED = {"router": "router.layer", "into": "input_linear.weight", "down": "output_linear.weight"}
RENAMED = (  # what the reference calls the file's names inside
    (r"block_sparse_moe\.experts\.gate_up_proj$", "block_sparse_moe.input_linear.weight"),
    (r"block_sparse_moe\.experts\.down_proj$", "block_sparse_moe.output_linear.weight"),
    (r"block_sparse_moe\.router\.weight$", "block_sparse_moe.router.layer.weight"),
)


@dataclass(kw_only=True)
class GraniteMoeConfig(granite.GraniteConfig):
    model_type = "granitemoe"
    inert: ClassVar[tuple[str, ...]] = ("init_method", "normalization_function", "rope_interleaved")

    mlp_bias: Literal[False] = False
    num_local_experts: Copies = 8
    num_experts_per_tok: Size = 2
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001  # of the load-balancing loss, which is added where router logits are shown


@dataclass(kw_only=True)
class GraniteMoeSharedConfig(GraniteMoeConfig):
    model_type = "granitemoeshared"

    shared_intermediate_size: Size | Literal[0] = 0


@dataclass(kw_only=True)
class GraniteMoeHybridConfig(bamba.HybridConfig, GraniteMoeSharedConfig):
    model_type = "granitemoehybrid"
    aliases: ClassVar[dict[str, str]] = {"layers_block_type": "layer_types"}
    inert: ClassVar[tuple[str, ...]] = (*bamba.HybridConfig.inert, *GraniteMoeConfig.inert)

    num_local_experts: Count = 8  # 0 for the shared feed-forward alone
    num_experts_per_tok: Count = 2
    shared_intermediate_size: Size = 1024
    position_embedding_type: Literal[None, "nope", "rope"] = None
    layer_types: list[str] | None = None


def shared_width(config: GraniteMoeConfig) -> int:
    """Return the width of an expert that every token passes; 0 for none."""
    return config.shared_intermediate_size if isinstance(config, GraniteMoeSharedConfig) else 0


def feed_forward(config: GraniteMoeConfig) -> nn.Module:
    """Build the routed experts, the shared feed-forward, or both."""

    def one(inner: int) -> GatedFeedForward:
        return GatedFeedForward(config.hidden_size, inner, config.hidden_act)

    inner, count = shared_width(config), config.num_local_experts
    if not count:
        return one(inner)
    experts = ExpertList([one(config.intermediate_size) for _ in range(count)])
    routed = RoutedExperts(config.hidden_size, experts, count, top_k_softmax(config.num_experts_per_tok))
    return SharedExpert(routed, one(inner)) if inner else routed


def build(config: GraniteMoeConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, scale=config.attention_multiplier)
        return llama.layer(config, attention, feed_forward(config), scale=config.residual_multiplier)

    return llama.decoder(config, layer, scale=config.embedding_multiplier, rescales=True)


def build_hybrid(config: GraniteMoeHybridConfig) -> Stack:
    kinds = layer_kinds(config, [LINEAR] * config.num_hidden_layers, (FULL, LINEAR))
    turned = config.position_embedding_type == "rope"
    positions = rotary_of(config, config.head_width) if turned else Positions()
    return bamba.decoder(
        config,
        kinds,
        lambda: llama.attention(config, positions, scale=config.attention_multiplier),
        lambda: feed_forward(config),
        config.residual_multiplier,
        scale=config.embedding_multiplier,
        rescales=True,
    )


def rows(config: GraniteMoeConfig, names: Mapping[str, str] = STORED) -> dict[str, str | Source]:
    """Return the key map rows of the feed-forward; `names` are of the experts' tensors."""
    count, inner, shared = config.num_local_experts, config.intermediate_size, shared_width(config)
    own: dict[str, str | Source] = {}
    step = "layers.*.ffn.step"
    routed = f"{step}.routed" if shared else step
    if count:
        sizes = (inner, inner)
        own[f"{routed}.router"] = f"{MOE}.{names['router']}"
        own[f"{routed}.experts.*.gate.weight"] = SlicePart(f"{MOE}.{names['into']}", count, 0, sizes, 0)
        own[f"{routed}.experts.*.up.weight"] = SlicePart(f"{MOE}.{names['into']}", count, 0, sizes, 1)
        own[f"{routed}.experts.*.down.weight"] = Slice(f"{MOE}.{names['down']}", count)
    if shared:
        ours, theirs = f"{step}.shared" if count else step, "layers.*.shared_mlp"
        own[f"{ours}.gate"] = Part(f"{theirs}.input_linear", (shared, shared), 0)
        own[f"{ours}.up"] = Part(f"{theirs}.input_linear", (shared, shared), 1)
        own[f"{ours}.down"] = f"{theirs}.output_linear"
    return own


def table(config: GraniteMoeConfig, own: Rows) -> KeyMap:
    without = DENSE if config.num_local_experts else ()
    return replace(llama.keys(config, own, without), renamed=RENAMED)


def keys(config: GraniteMoeConfig) -> KeyMap:
    return table(config, rows(config))


def keys_hybrid(config: GraniteMoeHybridConfig) -> KeyMap:
    return table(config, {**bamba.rows(config, "post_attention_layernorm"), **rows(config)})


def gguf_keys(config: GraniteMoeConfig) -> KeyMap:
    shared = gguf.shared_keys(SHARED) if shared_width(config) else {}
    own = gguf.expert_keys(ROUTED if shared else ALONE, config.num_local_experts)
    return gguf.llama_keys(config, {**own, **shared}, DENSE, turned=True)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, whose architecture may have a shared expert."""
    own = gguf.named(
        metadata, num_local_experts="expert_count", num_experts_per_tok="expert_used_count",
        shared_intermediate_size="expert_shared_feed_forward_length",
    )  # fmt: skip
    kind = {"model_type": "granitemoeshared"} if own.get("shared_intermediate_size") else {}
    return {**granite.gguf_config(metadata), **own, **kind}


def gguf_keys_hybrid(config: GraniteMoeHybridConfig) -> KeyMap:
    sizes = config.mamba_d_conv, config.mamba_n_heads, config.inner, config.mamba_n_groups, config.mamba_d_state
    own = {"layers.*.mixer.before": "blk.*.attn_norm", **mamba.gguf_rows2("layers.*.mixer.step", *sizes)}
    if config.num_local_experts:
        own |= {**gguf.expert_keys(ROUTED, config.num_local_experts), **gguf.shared_keys(SHARED)}
    return gguf.llama_keys(config, own, DENSE if config.num_local_experts else (), turned=True)


def gguf_config_hybrid(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, which counts no key heads in state-space layers."""
    found, sizes = granite.gguf_scales(metadata), mamba.gguf_sizes2(metadata)
    own = gguf.named(
        metadata, num_local_experts="expert_count", num_experts_per_tok="expert_used_count",
        shared_intermediate_size="expert_shared_feed_forward_length", turned="rope.scaling.finetuned",
    )  # fmt: skip
    counts = found["num_key_value_heads"]
    counts = counts if isinstance(counts, list) else [counts] * found["num_hidden_layers"]
    turned, experts = own.pop("turned", False), own.setdefault("num_local_experts", 0)
    if not experts:
        own |= {"shared_intermediate_size": found["intermediate_size"], "num_experts_per_tok": 0}
    return {
        **found,
        **own,
        "num_key_value_heads": max(counts),
        "layer_types": [FULL if count else LINEAR for count in counts],
        "position_embedding_type": "rope" if turned else None,
        "mamba_expand": sizes["inner"] // found["hidden_size"],
        "mamba_d_conv": sizes["kernel"],
        "mamba_d_state": sizes["state"],
        "mamba_n_heads": sizes["heads"],
        "mamba_d_head": sizes["inner"] // sizes["heads"],
        "mamba_n_groups": sizes["groups"],
        "mamba_conv_bias": any(name.endswith("ssm_conv1d.bias") for name in gguf.tensor_names(metadata)),
        "mamba_proj_bias": any(name.endswith("ssm_in.bias") for name in gguf.tensor_names(metadata)),
    }


LAYOUT: dict[str, Any] = {"layouts": {"gguf": gguf_keys}, "foreign_config": {"gguf": gguf_config}}
ARCHITECTURE = granite.ARCHITECTURE.derive("GraniteMoe", GraniteMoeConfig, build, keys=keys, **LAYOUT)
SHARED_EXPERT = ARCHITECTURE.derive("GraniteMoeShared", GraniteMoeSharedConfig, build, keys=keys, **LAYOUT)
HYBRID = ARCHITECTURE.derive(
    "GraniteMoeHybrid",
    GraniteMoeHybridConfig,
    build_hybrid,
    keys=keys_hybrid,
    layouts={"gguf": gguf_keys_hybrid},
    foreign_config={"gguf": gguf_config_hybrid},
)
