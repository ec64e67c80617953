"""ERNIE 4.5 (Baidu, 2025): Llama whose rotary pairs lie side by side, with one switch for all biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved
from ..config import Count, Size
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class Ernie4_5Config(llama.LlamaConfig):
    model_type = "ernie4_5"
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 103424
    hidden_size: Size = 1024
    intermediate_size: Size = 3072
    num_hidden_layers: Count = 18
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 128
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    use_bias: bool = False
    attention_bias: Literal[False] = False  # `use_bias` says it for all
    mlp_bias: Literal[False] = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0


def build(config: Ernie4_5Config) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        ffn = GatedFeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.use_bias)
        return llama.layer(config, llama.attention(config, positions, bias=config.use_bias), ffn)

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    """Return Llama's key map with rotary pairs side by side."""
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads or config.num_attention_heads}
    turned = {
        f"layers.*.attention.step.{name}": Interleaved(f"layers.*.self_attn.{name}_proj", count)
        for name, count in heads.items()
    }
    return llama.keys(config, turned)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = gguf.entries(metadata, llama.GGUF_NAMES)
    return {**found, "use_bias": gguf.has(metadata, "blk.0.attn_q.bias")}


HEADS = {end: llama.HEADS[end] for end in ("Model", "ForCausalLM")}
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Ernie4_5",
    Ernie4_5Config,
    build,
    keys=keys,
    heads=HEADS,
    layouts={"gguf": partial(gguf.llama_keys, turned=True)},
    foreign_config={"gguf": gguf_config},
)
