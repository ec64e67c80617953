"""BitNet b1.58 2B4T (Ma et al., 2025, arXiv:2504.12285): squared ReLU gates, and norms before each last product."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.norms import RMSNorm
from ..nn.stack import Stack
from ..nn.weights import Linear, NormedLinear
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class BitNetConfig(llama.LlamaConfig):
    model_type = "bitnet"
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 128256
    hidden_size: Size = 2560
    intermediate_size: Size = 6912
    num_hidden_layers: Count = 30
    num_attention_heads: Size = 20
    num_key_value_heads: Size | None = 5
    hidden_act: str = "relu2"
    rms_norm_eps: float = 1e-5
    head_dim: Literal[None] = None  # a norm spans all heads, as wide as the states
    rope_parameters: dict[str, Any] = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 500000.0})
    mlp_bias: Literal[False] = False
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001


def build(config: BitNetConfig) -> Stack:
    positions, inner = rotary_of(config, config.head_width), config.intermediate_size

    def layer(i: int) -> Layer:
        out, down = (
            NormedLinear(RMSNorm(width, config.rms_norm_eps), Linear(width, config.hidden_size, bias=bias))
            for width, bias in ((config.hidden_size, config.attention_bias), (inner, False))
        )
        attention = llama.attention(config, positions, projections={"out": out})
        return llama.layer(config, attention, GatedFeedForward(config.hidden_size, inner, config.hidden_act, down=down))

    return llama.decoder(config, layer)


def keys(config: BitNetConfig) -> KeyMap:
    own = {
        "layers.*.attention.step.out.norm": "layers.*.self_attn.attn_sub_norm",
        "layers.*.attention.step.out.linear": "layers.*.self_attn.o_proj",
        "layers.*.ffn.step.down.norm": "layers.*.mlp.ffn_sub_norm",
        "layers.*.ffn.step.down.linear": "layers.*.mlp.down_proj",
    }
    return llama.keys(config, own, without=("layers.*.attention.step.out", "layers.*.ffn.step.down"))


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive("BitNet", BitNetConfig, build, keys=keys, heads=HEADS)
