"""AFMoE (Arcee's Trinity, 2025) and Laguna (Poolside, 2026): gated attention, windows, sigmoid routing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.output_gate import OutputGateAttention
from ..nn.experts import GroupedTopK, SharedExpert
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm, WideRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import deepseek, llama, qwen3
from .common.experts import ROUTED, expert_rows, gated, routed
from .common.patterns import FULL, SLIDING, every, layer_kinds, layered_rope_entries, rotary_by_layer, rotary_of
from .mellum import window_of

THETAS = {FULL: 500000.0, SLIDING: 10000.0}


@dataclass(kw_only=True)
class AfmoeConfig(llama.LlamaConfig):
    model_type = "afmoe"
    inert = (
        "load_balance_coeff", "n_group", "num_expert_groups", "num_limited_groups", "rope_interleave", "topk_group",
        "use_grouped_mm",
    )  # fmt: skip

    vocab_size: Size = 200192
    hidden_size: Size = 2048
    intermediate_size: Size = 6144
    moe_intermediate_size: Size = 1408
    num_dense_layers: int = 1
    num_attention_heads: Size = 16
    head_dim: Size | None = 128
    max_position_embeddings: Size = 16384
    rms_norm_eps: float = 1e-5
    num_experts: Copies = 64
    num_experts_per_tok: Size = 6
    num_shared_experts: Size = 2
    route_scale: float = 1.0
    score_func: Literal["sigmoid"] = "sigmoid"
    route_norm: Literal[True] = True
    global_attn_every_n_layers: Size = 4
    sliding_window: Size | None = 1024
    layer_types: list[str] | None = None
    mup_enabled: bool = False
    output_router_logits: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


@dataclass(kw_only=True)
class LagunaConfig(llama.LlamaConfig):
    model_type = "laguna"
    inert: ClassVar[tuple[str, ...]] = ("decoder_sparse_step", "mlp_only_layers", "norm_topk_prob", "qkv_bias")
    rotary_factor: ClassVar[float | None] = 1.0

    vocab_size: Size = 100352
    hidden_size: Size = 2048
    intermediate_size: Size = 8192
    num_hidden_layers: Count = 40
    num_attention_heads: Size = 48
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    moe_intermediate_size: Size = 512
    shared_expert_intermediate_size: Size = 512
    num_experts: Copies = 256
    num_experts_per_tok: Size = 8
    sliding_window: Size | None = 512
    gating: bool | str = True
    num_attention_heads_per_layer: list[int] | None = None
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    first_k_dense_replace: Literal[1] = 1
    moe_routed_scaling_factor: float = 1.0
    moe_apply_router_weight_on_input: Literal[False] = False
    moe_router_logit_softcapping: float = 0.0
    rope_parameters: dict[str, Any] = field(
        default_factory=lambda: {
            FULL: {"rope_type": "default", "rope_theta": 500000.0, "partial_rotary_factor": 0.5},
            SLIDING: {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        }
    )
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        if not entries.get("rope_parameters"):
            return {k: v for k, v in entries.items() if k != "rope_parameters"}
        return layered_rope_entries(entries, THETAS)

    def check(self) -> None:
        super().check()
        heads = self.num_attention_heads_per_layer
        if heads is not None and len(heads) != self.num_hidden_layers:
            raise UnsupportedConfig(f"num_attention_heads_per_layer has {len(heads)} entries.")
        if self.gating not in (True, "per-head", "per-element"):
            raise UnsupportedConfig(f'gating is {self.gating!r}; it must be true, "per-head" or "per-element".')


def attention(config: Any, heads: int, norm: Callable[[int, float], nn.Module], **options: Any) -> OutputGateAttention:
    q_norm, k_norm = (norm(config.head_width, config.rms_norm_eps) for _ in range(2))
    return OutputGateAttention(
        config.hidden_size,
        heads,
        key_heads=config.num_key_value_heads,
        head_width=config.head_width,
        bias=config.attention_bias,
        causal=True,
        dropout=config.attention_dropout,
        q_norm=q_norm,
        k_norm=k_norm,
        **options,
    )


def norm(config: Any) -> nn.Module:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps)


def build(config: AfmoeConfig) -> Stack:
    """Build AFMoE's stack: only sliding-window layers have rotary positions, norms stand around each step."""
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, every(config.global_attn_every_n_layers, config.num_hidden_layers))
    gates = {"by_head": False, "soft": False}

    def experts() -> nn.Module:
        count, inner = config.num_experts, config.moe_intermediate_size
        rule = GroupedTopK(count, config.num_experts_per_tok, scale=config.route_scale)
        return SharedExpert(routed(config, count, rule), gated(config, inner * config.num_shared_experts))

    def layer(i: int) -> Layer:
        turns = positions if kinds[i] == SLIDING else Positions()
        window = window_of(config, kinds[i])
        own = attention(config, config.num_attention_heads, WideRMSNorm, positions=turns, window=window, **gates)
        steps = (own, llama.feed_forward(config) if i < config.num_dense_layers else experts())
        first, second = (Residual(step, before=norm(config), out=norm(config)) for step in steps)
        return Layer(first, second)

    scale = math.sqrt(config.hidden_size) if config.mup_enabled else 1.0
    return llama.decoder(config, layer, norm, scale=scale, rescales=True)


def build_laguna(config: LagunaConfig) -> Stack:
    positions, dense = rotary_by_layer(config, config.head_width), deepseek.dense_layers(config)
    kinds = layer_kinds(config, [FULL] * config.num_hidden_layers)
    heads = config.num_attention_heads_per_layer or [config.num_attention_heads] * config.num_hidden_layers
    gates = {"by_head": config.gating != "per-element", "soft": True}

    def experts() -> nn.Module:
        count, scale = config.num_experts, config.moe_routed_scaling_factor
        cap = config.moe_router_logit_softcapping
        rule = GroupedTopK(count, config.num_experts_per_tok, scale=scale)
        each = routed(config, count, rule, softcap=cap if cap > 0 else None)
        return SharedExpert(each, gated(config, config.shared_expert_intermediate_size))

    def layer(i: int) -> Layer:
        window = window_of(config, kinds[i])
        own = attention(config, heads[i], RMSNorm, positions=positions[kinds[i]], window=window, **gates)
        return llama.layer(config, own, llama.feed_forward(config) if dense[i] else experts())

    return llama.decoder(config, layer)


def keys(config: AfmoeConfig) -> KeyMap:
    rows = {
        **qwen3.NORMS,
        **expert_rows(router="router.gate"),
        f"{ROUTED}.rule.correction": "layers.*.mlp.expert_bias",
        "layers.*.attention.step.gate": "layers.*.self_attn.gate_proj",
        "layers.*.attention.out": "layers.*.post_attention_layernorm",
        "layers.*.ffn.before": "layers.*.pre_mlp_layernorm",
        "layers.*.ffn.out": "layers.*.post_mlp_layernorm",
    }
    return llama.keys(config, rows)


def keys_laguna(config: LagunaConfig) -> KeyMap:
    rows = {
        **qwen3.NORMS,
        **expert_rows(shared="shared_expert"),
        f"{ROUTED}.rule.correction": "layers.*.mlp.experts.e_score_correction_bias",
        "layers.*.attention.step.gate": "layers.*.self_attn.g_proj",
    }
    renamed = (  # the reference's own names
        (r"\.gate\.e_score_correction_bias$", ".experts.e_score_correction_bias"),
        (r"\.shared_experts\.", ".shared_expert."),
    )
    return replace(llama.keys(config, rows), renamed=renamed)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
AFMOE = llama.ARCHITECTURE.derive("Afmoe", AfmoeConfig, build, keys=keys, heads=HEADS)
LAGUNA = replace(AFMOE, name="Laguna", config=LagunaConfig, build=build_laguna, keys=keys_laguna)
