"""Seed-OSS (ByteDance, 2025): Llama with biases in front of attention, and dropout on what each step gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..config import Count, Size
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class SeedOssConfig(llama.LlamaConfig):
    model_type = "seed_oss"

    vocab_size: Size = 155136
    intermediate_size: Size = 27648
    num_hidden_layers: Count = 64
    num_attention_heads: Size = 80
    num_key_value_heads: Size | None = 8
    head_dim: Size | None = 128
    max_position_embeddings: Size = 524288
    attention_bias: bool = True
    attention_out_bias: bool = False
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0


def build(config: SeedOssConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, out_bias=config.attention_out_bias)
        return llama.layer(config, attention, llama.feed_forward(config), dropout=config.residual_dropout)

    return llama.decoder(config, layer)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "SeedOss",
    SeedOssConfig,
    build,
    layouts={"gguf": partial(gguf.llama_keys, more={"layers.*.ffn.before": "blk.*.post_attention_norm"})},
    foreign_config={"gguf": llama.gguf_config},
)
