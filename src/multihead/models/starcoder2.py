"""StarCoder 2 (Lozhkov et al., 2024, arXiv:2402.19173): layer norms, biases, a plain feed-forward, a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class Starcoder2Config(llama.LlamaConfig):
    model_type = "starcoder2"
    inert = ("activation_function", "layer_norm_epsilon", "mlp_type", "norm_type", "scale_attn_weights")

    vocab_size: Size = 49152
    hidden_size: Size = 3072
    intermediate_size: Size = 12288
    num_hidden_layers: Count = 30
    num_attention_heads: Size = 24
    num_key_value_heads: Size | None = 2
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: Size = 4096
    initializer_range: float = 0.018042
    norm_epsilon: float = 1e-5
    sliding_window: Size | None = None
    residual_dropout: float = 0.0
    embedding_dropout: float = 0.0
    use_bias: bool = True
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


def norm(config: Any) -> nn.Module:
    return LayerNorm(config.hidden_size, config.norm_epsilon)


def build(config: Starcoder2Config) -> Stack:
    positions, bias = rotary_of(config, config.head_width), config.use_bias

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, bias=bias, window=config.sliding_window)
        ffn = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=bias)
        return llama.layer(config, attention, ffn, norm, dropout=config.residual_dropout)

    return llama.decoder(config, layer, norm, dropout=config.embedding_dropout)


def keys(config: Starcoder2Config) -> KeyMap:
    own = {"layers.*.ffn.step.up": "layers.*.mlp.c_fc", "layers.*.ffn.step.down": "layers.*.mlp.c_proj"}
    return llama.keys(config, own, without=("layers.*.ffn.step.gate",))


def gguf_keys(config: Starcoder2Config) -> KeyMap:
    return gguf.llama_keys(config, without=("layers.*.ffn.step.gate",))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return gguf.entries(metadata, (*llama.GGUF_NAMES, "sliding_window"), norm_epsilon="layer_norm_eps")


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    name="Starcoder2",
    config=Starcoder2Config,
    build=build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
