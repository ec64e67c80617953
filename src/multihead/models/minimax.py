"""MiniMax-Text-01 and M1 (MiniMax, 2025, arXiv:2501.08313): lightning attention, some softmax attention, experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..nn.layer import Layer, MixerLayer, WeightedResidual
from ..nn.lightning_attention import LightningAttention
from ..nn.stack import Stack
from . import llama, mixtral
from .common.patterns import FULL, LINEAR, layer_kinds, rotary_of

NORM_EPS = 1e-6  # of the norm inside lightning attention, whatever the config says
DERIVED = r"self_attn\.(slope_rate|query_decay|key_decay|diagonal_decay)$"


@dataclass(kw_only=True)
class MiniMaxConfig(mixtral.MixtralConfig):
    model_type = "minimax"
    inert: ClassVar[tuple[str, ...]] = ("block_size", "rope_interleaved")
    aliases: ClassVar[dict[str, str]] = {"num_experts": "num_local_experts"}

    hidden_size: Size = 4096
    intermediate_size: Size = 14336
    num_hidden_layers: Count = 32
    num_key_value_heads: Size | None = 8
    max_position_embeddings: Size = 131072
    layer_types: list[str] | None = None
    full_attn_alpha_factor: float = 1
    full_attn_beta_factor: float = 1
    linear_attn_alpha_factor: float = 1
    linear_attn_beta_factor: float = 1
    mlp_alpha_factor: float = 1
    mlp_beta_factor: float = 1


def rates(config: MiniMaxConfig, number: int) -> list[float]:
    """Return the decay rate of each head of a layer: heads forget at ALiBi's slopes, late layers more slowly."""
    heads = config.num_attention_heads
    factor = 1 - number / (config.num_hidden_layers - 1 + 1e-5) + 1e-5
    return [2 ** (-8 / heads * (head + 1)) * factor for head in range(heads)]


def build(config: MiniMaxConfig) -> Stack:
    positions, count = rotary_of(config, config.head_width), config.num_hidden_layers
    kinds = layer_kinds(config, [LINEAR if i % 2 else FULL for i in range(count)], (FULL, LINEAR))

    def residual(step: nn.Module, keep: float, scale: float) -> WeightedResidual:
        return WeightedResidual(step, before=llama.norm(config), keep=keep, scale=scale)

    def layer(i: int) -> nn.Module:
        ffn = residual(mixtral.experts(config), config.mlp_alpha_factor, config.mlp_beta_factor)
        if kinds[i] == FULL:
            step: nn.Module = llama.attention(config, positions, window=config.sliding_window)
            return Layer(residual(step, config.full_attn_alpha_factor, config.full_attn_beta_factor), ffn)
        width, act = config.head_width, config.hidden_act
        step = LightningAttention(config.hidden_size, rates(config, i), width, act=act, eps=NORM_EPS)
        return MixerLayer(residual(step, config.linear_attn_alpha_factor, config.linear_attn_beta_factor), ffn)

    return llama.decoder(config, layer)


def keys(config: MiniMaxConfig) -> KeyMap:
    table = mixtral.keys(config)
    ours, theirs = "layers.*.mixer.step", "layers.*.self_attn"
    names = {"qkv": "qkv_proj", "out": "out_proj", "gate": "output_gate", "norm": "norm"}
    own: dict[str, Any] = {f"{ours}.{name}": f"{theirs}.{stored}" for name, stored in names.items()}
    own["layers.*.mixer.before"] = "layers.*.input_layernorm"
    return replace(table, rows={**table.rows, **own}, ignored=(*table.ignored, DERIVED))


ARCHITECTURE = mixtral.ARCHITECTURE.derive("MiniMax", MiniMaxConfig, build, keys=keys)
