"""Persimmon (Adept, 2023): squared ReLU without a gate, layer norms with biases, also of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import PerHead, Source
from ..config import Count, Size
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import llama, nemotron
from .common.patterns import rotary_of
from .stablelm import norm


@dataclass(kw_only=True)
class PersimmonConfig(llama.LlamaConfig):
    model_type = "persimmon"
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 262144
    intermediate_size: Size = 16384
    num_hidden_layers: Count = 36
    num_attention_heads: Size = 64
    num_key_value_heads: Literal[None] = None
    head_dim: Literal[None] = None
    hidden_act: str = "relu2"
    max_position_embeddings: Size = 16384
    layer_norm_eps: float = 1e-5
    qk_layernorm: bool = True
    hidden_dropout: float = 0.0
    attention_bias: Literal[True] = True
    mlp_bias: Literal[True] = True


def build(config: PersimmonConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def norms() -> dict[str, Any]:
        names = ("q_norm", "k_norm") if config.qk_layernorm else ()
        return {name: LayerNorm(config.head_width, config.layer_norm_eps) for name in names}

    def layer(i: int) -> Layer:
        attention = Residual(llama.attention(config, positions, **norms()), before=norm(config))
        ffn = Residual(nemotron.feed_forward(config), before=norm(config), dropout=config.hidden_dropout)
        return Layer(attention, ffn)

    return llama.decoder(config, layer, norm)


def keys(config: PersimmonConfig) -> KeyMap:
    ours, theirs = "layers.*.attention.step", "layers.*.self_attn"
    fused = {
        f"{ours}.{name}": PerHead(f"{theirs}.query_key_value", config.num_attention_heads, (1, 1, 1), i)
        for i, name in enumerate(("q", "k", "v"))
    }
    own: dict[str, str | Source] = {
        **fused,
        f"{ours}.q_norm": f"{theirs}.q_layernorm",
        f"{ours}.k_norm": f"{theirs}.k_layernorm",
        f"{ours}.out": f"{theirs}.dense",
        "layers.*.ffn.step.up": "layers.*.mlp.dense_h_to_4h",
        "layers.*.ffn.step.down": "layers.*.mlp.dense_4h_to_h",
        "norm": "final_layernorm",
    }
    return nemotron.keys(config, own)


HEADS = {end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"}
ARCHITECTURE = llama.ARCHITECTURE.derive("Persimmon", PersimmonConfig, build, keys=keys, heads=HEADS)
