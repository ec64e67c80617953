"""GLM-4 (arXiv:2406.12793): half of each head turned, gate and up in one matrix. GLM-4-0414: more norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved, Part, Source
from ..config import Count, Size
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from . import llama
from .common import gguf
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


def rows(config: GlmConfig, projection: str, fused: str) -> dict[str, str | Source]:
    """Return the key map rows of queries and keys (`projection` has a % for q or k), and of gate and up in one."""
    rotated = int(config.head_width * config.rope_parameters.get("partial_rotary_factor", 1.0))
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    own: dict[str, str | Source] = {
        f"layers.*.attention.step.{n}": Interleaved(projection.replace("%", n), count, rotated)
        for n, count in heads.items()
    }
    sizes = (config.intermediate_size,) * 2
    return own | {f"layers.*.ffn.step.{n}": Part(fused, sizes, i) for i, n in enumerate(("gate", "up"))}


def keys(config: GlmConfig) -> KeyMap:
    return llama.keys(config, rows(config, "layers.*.self_attn.%_proj", "layers.*.mlp.gate_up_proj"))


def keys_sandwich(config: Glm4Config) -> KeyMap:
    plain = keys(config)
    norms = {
        "layers.*.attention.out": "layers.*.post_self_attn_layernorm",
        "layers.*.ffn.out": "layers.*.post_mlp_layernorm",
    }
    return replace(plain, rows={**plain.rows, **norms})


def gguf_keys(config: Glm4Config) -> KeyMap:
    norms = {"layers.*.attention.out": "blk.*.post_attention_norm", "layers.*.ffn.out": "blk.*.post_ffw_norm"}
    return gguf.llama_keys(config, {**rows(config, "blk.*.attn_%", "blk.*.ffn_up"), **norms})


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = llama.gguf_config(metadata)
    width = found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]
    own = {"head_dim": width, "attention_bias": gguf.has(metadata, "blk.0.attn_q.bias")}
    return {**found, **gguf.rotary_factor(metadata, width), **own}


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Glm",
    GlmConfig,
    build,
    keys=keys,
    heads={end: make for end, make in llama.HEADS.items() if end != "ForQuestionAnswering"},
)
GLM4 = replace(
    ARCHITECTURE,
    name="Glm4",
    config=Glm4Config,
    build=build_sandwich,
    keys=keys_sandwich,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
