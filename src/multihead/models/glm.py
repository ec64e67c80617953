"""GLM-4 (arXiv:2406.12793): half of each head turned, gate and up in one matrix. GLM-4-0414: more norms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved, Part
from ..config import Count, Size
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class GlmConfig(llama.LlamaConfig):
    model_type = "glm"
    rotary_factor: ClassVar[float | None] = 0.5

    vocab_size: Size = 151552
    intermediate_size: Size = 13696
    num_hidden_layers: Count = 40
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1.5625e-07
    attention_bias: bool = True
    pad_token_id: int | None = 151329
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = field(default_factory=lambda: [151329, 151336, 151338])


@dataclass(kw_only=True)
class Glm4Config(GlmConfig):
    model_type = "glm4"


def build(config: GlmConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, out_bias=False)
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


def build_sandwich(config: Glm4Config) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        steps = (llama.attention(config, positions, out_bias=False), llama.feed_forward(config))
        first, second = (Residual(step, before=llama.norm(config), out=llama.norm(config)) for step in steps)
        return Layer(first, second)

    return llama.decoder(config, layer)


def keys(config: GlmConfig) -> KeyMap:
    rotated = int(config.head_width * config.rope_parameters.get("partial_rotary_factor", 1.0))
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    own = {
        f"layers.*.attention.step.{n}": Interleaved(f"layers.*.self_attn.{n}_proj", count, rotated)
        for n, count in heads.items()
    }
    sizes = (config.intermediate_size,) * 2
    fused = {
        f"layers.*.ffn.step.{n}": Part("layers.*.mlp.gate_up_proj", sizes, i) for i, n in enumerate(("gate", "up"))
    }
    return llama.keys(config, {**own, **fused})


def keys_sandwich(config: Glm4Config) -> KeyMap:
    plain = keys(config)
    norms = {
        "layers.*.attention.out": "layers.*.post_self_attn_layernorm",
        "layers.*.ffn.out": "layers.*.post_mlp_layernorm",
    }
    return replace(plain, rows={**plain.rows, **norms})


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Glm",
    GlmConfig,
    build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
)
GLM4 = replace(ARCHITECTURE, name="Glm4", config=Glm4Config, build=build_sandwich, keys=keys_sandwich)
