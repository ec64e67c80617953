"""Beam (Reflection AI, 2026): Qwen3's normed attention with gates, experts in groups, sums scaled by depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Copies, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.attention.output_gate import BiasedGateAttention
from ..nn.attention.query_scale import PowerScale
from ..nn.experts import GroupedTopK
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import DepthResidual, Layer
from ..nn.norms import WideRMSNorm
from ..nn.positions import Positions, rotary
from ..nn.stack import Stack
from . import deepseek, gemma2, llama
from .common.experts import ALONE, routed, routed_rows
from .common.patterns import FULL, SLIDING, layer_kinds
from .qwen3 import NORMS


@dataclass(kw_only=True)
class BeamConfig(Config):
    model_type = "beam"

    vocab_size: Size = 151936
    hidden_size: Size = 5120
    intermediate_size: Size = 20480
    num_hidden_layers: Count = 52
    num_attention_heads: Size = 48
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    hidden_act: str = "silu"
    max_position_embeddings: Size = 8192
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
    sliding_window: Size | None = 512
    layer_types: list[str] | None = None
    mlp_layer_types: list[str] | None = None
    moe_intermediate_size: Size = 2560
    num_experts: Copies = 256
    num_experts_per_tok: Size = 8
    norm_topk_prob: bool = True
    n_group: Size = 8
    topk_group: Size = 4
    routed_scaling_factor: float = 2.5
    final_logit_softcapping: float | None = 30.0
    output_router_logits: bool = False
    rope_parameters: dict[str, Any] = field(  # kind of layer -> its positions; null for none, with scaled queries
        default_factory=lambda: {SLIDING: {"rope_type": "default", "rope_theta": 10000.0}, FULL: None}
    )

    def check(self) -> None:
        wrong = [rope for kind in self.kinds if not isinstance(rope := self.rope_parameters.get(kind), Mapping | None)]
        if wrong or set(self.kinds) - set(self.rope_parameters):
            raise UnsupportedConfig(f"rope_parameters must say an object or null for {set(self.kinds)}.")
        if self.num_experts % self.n_group or self.topk_group > self.n_group:
            raise UnsupportedConfig(f"{self.num_experts} experts are not in {self.n_group} groups of one size.")
        deepseek.dense_layers(self)

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def kinds(self) -> list[str]:
        last = self.num_hidden_layers - 1
        usual = [SLIDING if (i + 1) % 6 and i != last else FULL for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual)

    @property
    def first_k_dense_replace(self) -> int:
        """Dense layers where `mlp_layer_types` names none."""
        return 3


def norm(config: Any) -> nn.Module:
    return WideRMSNorm(config.hidden_size, config.rms_norm_eps)


def attention(config: BeamConfig, kind: str, positions: Positions | None) -> BiasedGateAttention:
    norms = {name: WideRMSNorm(config.head_width, config.rms_norm_eps) for name in ("q_norm", "k_norm")}
    return BiasedGateAttention(
        config.hidden_size,
        config.num_attention_heads,
        head_width=config.head_width,
        key_heads=config.num_key_value_heads,
        bias=config.attention_bias,
        positions=positions,
        causal=True,
        window=config.sliding_window if kind == SLIDING else None,
        query_scale=PowerScale(0.1, 2048) if positions is None else None,
        dropout=config.attention_dropout,
        **norms,
    )


def experts(config: BeamConfig) -> nn.Module:
    rule = GroupedTopK(
        config.num_experts,
        config.num_experts_per_tok,
        groups=config.n_group,
        kept=config.topk_group,
        normalized=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
    )
    return routed(config, config.num_experts, rule, wide=True, exact=True)


def build(config: Any) -> Stack:
    places = {
        kind: None if rope is None else rotary(config.head_width, rope, config.max_position_embeddings)
        for kind, rope in config.rope_parameters.items()
    }
    kinds, dense = config.kinds, deepseek.dense_layers(config)

    def layer(i: int) -> Layer:
        ffn = GatedFeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
        steps = attention(config, kinds[i], places[kinds[i]]), ffn if dense[i] else experts(config)
        first, second = (
            DepthResidual(step, 2 * i + number, before=norm(config), out=norm(config))
            for number, step in enumerate(steps, 2)
        )
        return Layer(first, second)

    return llama.decoder(config, layer, norm)


def keys(config: BeamConfig) -> KeyMap:
    own = {
        "layers.*.attention.step.gate": "layers.*.self_attn.gate_proj",
        "layers.*.attention.step.gate_bias": "layers.*.self_attn.gate_bias",
        **routed_rows(),
        **deepseek.correction_rows(ALONE),
    }
    return llama.keys(config, {**gemma2.SANDWICH, **NORMS, **own})


def generate(config: BeamConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, softcap=config.final_logit_softcapping)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Beam", BeamConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": generate}
)
