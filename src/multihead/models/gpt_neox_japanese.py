"""GPT-NeoX-Japanese (ABEJA, 2022): GPT-NeoX in sequence without biases but one, behind the last attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import PerHead, Source
from ..config import Count, Size
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import gpt_neox
from .common.architecture import Architecture
from .common.patterns import rotary_of
from .common.rotary_config import RotaryConfig


@dataclass(kw_only=True)
class GPTNeoXJapaneseConfig(RotaryConfig):
    model_type = "gpt_neox_japanese"
    rotary_factor = 1.0

    vocab_size: Size = 32000
    hidden_size: Size = 2560
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 32
    intermediate_multiple_size: Size = 4
    hidden_act: str = "gelu"
    max_position_embeddings: Size = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.1
    hidden_dropout: float = 0.0
    bos_token_id: int | None = 31996
    eos_token_id: int | list[int] | None = 31999

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return gpt_neox.rotary_entries(entries, cls.rotary_factor)


def build(config: GPTNeoXJapaneseConfig) -> Stack:
    width, heads = config.hidden_size, config.num_attention_heads
    positions = rotary_of(config, width // heads)

    def step(module: nn.Module) -> Residual:
        return Residual(module, before=LayerNorm(width, config.layer_norm_eps), dropout=config.hidden_dropout)

    def layer(i: int) -> Layer:
        last = i == config.num_hidden_layers - 1
        settings: dict[str, Any] = {"bias": False, "out_bias": last, "dropout": config.attention_dropout}
        attention = Attention(width, heads, positions=positions, causal=True, **settings)
        ffn = FeedForward(width, width * config.intermediate_multiple_size, config.hidden_act, bias=False)
        return Layer(step(attention), step(ffn))

    layers = [layer(i) for i in range(config.num_hidden_layers)]
    return Stack(Embeddings(Embedding(config.vocab_size, width)), layers, LayerNorm(width, config.layer_norm_eps))


def keys(config: GPTNeoXJapaneseConfig) -> KeyMap:
    rows: dict[str, str | Source] = {
        "embed.token": "embed_in",
        **{
            f"layers.*.attention.step.{name}": PerHead(
                "layers.*.attention.query_key_value", config.num_attention_heads, (1, 1, 1), i
            )
            for i, name in enumerate("qkv")
        },
        "layers.*.attention.step.out": "layers.*.attention.dense",
        "layers.*.attention.step.out.bias": "layers.*.attention.dense_bias",
        "layers.*.attention.before": "layers.*.input_layernorm",
        "layers.*.ffn.before": "layers.*.post_attention_layernorm",
        "layers.*.ffn.step.up": "layers.*.mlp.dense_h_to_4h",
        "layers.*.ffn.step.down": "layers.*.mlp.dense_4h_to_h",
        "norm": "final_layer_norm",
    }
    copies = (r"^embed_out\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "gpt_neox_japanese.", ignored=(r"rotary_emb\.inv_freq$", *copies))


HEADS = {"Model": None, "ForCausalLM": gpt_neox.generate}
ARCHITECTURE = Architecture("GPTNeoXJapanese", GPTNeoXJapaneseConfig, build, keys, heads=HEADS)
