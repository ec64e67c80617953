"""DiffLlama (2024): Llama with differential attention (Ye et al., arXiv:2410.05258)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.differential import DifferentialAttention, start_of
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class DiffLlamaConfig(llama.LlamaConfig):
    model_type = "diffllama"

    hidden_size: Size = 2048
    intermediate_size: Size = 8192
    num_hidden_layers: Count = 16
    rms_norm_eps: float = 1e-5
    lambda_std_dev: float = 0.1  # of new weights
    attention_dropout: float = 0.0
    mlp_bias: Literal[False] = False

    def check(self) -> None:
        super().check()
        if self.attention_dropout:
            raise UnsupportedConfig(f"attention_dropout is {self.attention_dropout}; differential attention has none.")


def build(config: DiffLlamaConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = DifferentialAttention(
            config.hidden_size,
            config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_width=config.head_width,
            bias=config.attention_bias,
            positions=positions,
            causal=True,
            start=start_of(i),
            eps=config.rms_norm_eps,
        )
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


def keys(config: DiffLlamaConfig) -> KeyMap:
    names = [f"lambda_{part}" for part in ("q1", "k1", "q2", "k2")]
    return llama.keys(config, {f"layers.*.attention.step.{name}": f"layers.*.self_attn.{name}" for name in names})


ARCHITECTURE = llama.ARCHITECTURE.derive("DiffLlama", DiffLlamaConfig, build, keys=keys)
