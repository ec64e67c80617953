"""Granite with sliding windows, attention sinks and a rotary base for each layer (IBM, 2026), dense or with experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.positions import Positions, rotary
from ..nn.stack import Stack
from . import granite, granite_moe, llama
from .common.patterns import FULL, SLIDING, layer_kinds, whole

INNER = {  # names of experts that the reference has given no others in files
    "router": "router",
    "into": "experts.gate_up_proj",
    "down": "experts.down_proj",
}
SINKS = {"layers.*.attention.step.sinks": "layers.*.self_attn.sinks"}


@dataclass(kw_only=True)
class GraniteSWAConfig(granite.GraniteConfig):
    model_type = "granite_swa"

    vocab_size: Size = 100352
    hidden_size: Size = 2560
    intermediate_size: Size = 8192
    num_hidden_layers: Count = 24
    num_attention_heads: Size = 20
    num_key_value_heads: Size | None = 4
    max_position_embeddings: Size = 8192
    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = 128
    layer_types: list[str] | None = None
    layer_rope_theta: list[float] | None = None  # 0 for a layer without positions
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 100257
    eos_token_id: int | list[int] | None = 100257


@dataclass(kw_only=True)
class GraniteMoeSWAConfig(granite_moe.GraniteMoeSharedConfig):
    model_type = "granitemoe_swa"

    sliding_window: Size | None = 128
    layer_types: list[str] | None = None
    layer_rope_theta: list[float] | None = None


def positions_of(config: Any) -> list[Positions]:
    """Return the positions of each layer; layers with one base share them."""
    rope, count = whole(config, config.rope_parameters), config.num_hidden_layers
    bases = config.layer_rope_theta or [rope["rope_theta"]] * count
    if len(bases) != count:
        raise UnsupportedConfig(f"layer_rope_theta has {len(bases)} entries for {count} layers.")
    known: dict[float, Positions] = {0: Positions()}
    for base in bases:
        if base not in known:
            known[base] = rotary(config.head_width, {**rope, "rope_theta": base}, config.max_position_embeddings)
    return [known[base] for base in bases]


def build(config: Any, ffn: Callable[[Any], nn.Module]) -> Stack:
    positions, count = positions_of(config), config.num_hidden_layers
    kinds = layer_kinds(config, [SLIDING if i % 4 else FULL for i in range(count)])

    def layer(i: int) -> nn.Module:
        window = config.sliding_window if kinds[i] == SLIDING else None
        options = {"scale": config.attention_multiplier, "window": window, "sinks": True}
        attention = llama.attention(config, positions[i], **options)
        return llama.layer(config, attention, ffn(config), scale=config.residual_multiplier)

    return llama.decoder(config, layer, scale=config.embedding_multiplier, rescales=True)


def keys(config: GraniteSWAConfig) -> KeyMap:
    return llama.keys(config, SINKS)


def keys_moe(config: GraniteMoeSWAConfig) -> KeyMap:
    table = granite_moe.table(config, {**granite_moe.rows(config, INNER), **SINKS})
    return replace(table, renamed=())


ARCHITECTURE = granite.ARCHITECTURE.derive(
    "GraniteSWA", GraniteSWAConfig, partial(build, ffn=llama.feed_forward), keys=keys
)
MOE = ARCHITECTURE.derive(
    "GraniteMoeSWA", GraniteMoeSWAConfig, partial(build, ffn=granite_moe.feed_forward), keys=keys_moe
)
