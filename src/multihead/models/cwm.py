"""Code World Model (Meta, 2025, arXiv:2510.02387): Llama 3 with windows in three of four layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common.patterns import FULL, SLIDING, layer_kinds, own_rope, rotary_of

ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(kw_only=True)
class CwmConfig(llama.LlamaConfig):
    model_type = "cwm"
    theta: ClassVar[float] = 1000000.0

    vocab_size: Size = 128256
    hidden_size: Size = 6144
    intermediate_size: Size = 21504
    num_hidden_layers: Count = 64
    num_attention_heads: Size = 48
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    attention_bias: Literal[False] = False
    sliding_window: Size | None = 8192
    layer_types: list[str] | None = None
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = field(default_factory=lambda: [128001, 128008, 128009])

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized(own_rope(entries, ROPE))


def build(config: CwmConfig) -> Stack:
    positions = rotary_of(config, config.head_width)
    kinds = layer_kinds(config, [SLIDING if i % 4 else FULL for i in range(config.num_hidden_layers)])
    if SLIDING in kinds and config.sliding_window is None:
        raise UnsupportedConfig("layer_types has sliding layers, and sliding_window says no window.")

    def layer(i: int) -> Layer:
        window = config.sliding_window if kinds[i] == SLIDING else None
        return llama.layer(config, llama.attention(config, positions, window=window), llama.feed_forward(config))

    return llama.decoder(config, layer)


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("Cwm", CwmConfig, build, heads=HEADS)
