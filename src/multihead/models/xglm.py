"""XGLM (Lin et al., 2021, arXiv:2112.10668): GPT-2's layers with sinusoids for positions and scaled words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, Tensor2TensorPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, ScaledEmbedding
from . import llama
from .common.architecture import Architecture
from .gptj import head_copies

OFFSET = 2  # of the first position


@dataclass(kw_only=True)
class XGLMConfig(Config):
    model_type = "xglm"
    aliases: ClassVar[Mapping[str, str]] = {
        "num_attention_heads": "attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
    }

    vocab_size: Size = 256008
    max_position_embeddings: Size = 2048
    d_model: Size = 1024
    ffn_dim: Size = 4096
    num_layers: Count = 24
    attention_heads: Size = 16
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layerdrop: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = True
    add_cross_attention: Literal[False] = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2

    def check(self) -> None:
        if self.pad_token_id is not None and self.pad_token_id >= OFFSET:
            raise UnsupportedConfig(
                f"pad_token_id is {self.pad_token_id}; the position {self.pad_token_id - OFFSET} would have no vector."
            )


def words(count: int, width: int, scaled: bool) -> nn.Embedding:
    """Build word embeddings, scaled by the root of their width where a config says so."""
    return ScaledEmbedding(count, width, width**0.5, rounded=False) if scaled else Embedding(count, width)


def layer(
    width: int, heads: int, inner: int, act: str, dropout: float, attention_dropout: float, inner_dropout: float
) -> Layer:
    """Build a pre-norm layer with biases, as fairseq has it."""
    attention = Attention(width, heads, causal=True, dropout=attention_dropout)
    ffn = FeedForward(width, inner, act, dropout=inner_dropout)
    first, second = (Residual(step, before=LayerNorm(width), dropout=dropout) for step in (attention, ffn))
    return Layer(first, second)


def build(config: XGLMConfig) -> Stack:
    width = config.d_model
    embed = Embeddings(
        words(config.vocab_size, width, config.scale_embedding),
        position=Tensor2TensorPositions(width, offset=OFFSET),
        dropout=config.dropout,
    )
    sizes = width, config.attention_heads, config.ffn_dim, config.activation_function
    rates = config.dropout, config.attention_dropout, config.activation_dropout
    layers = [layer(*sizes, *rates) for _ in range(config.num_layers)]
    return Stack(embed, layers, LayerNorm(width), drop=config.layerdrop)


ROWS: Mapping[str, str] = {
    "embed.token": "embed_tokens",
    "embed.position.table": "embed_positions",
    **{f"layers.*.attention.step.{n}": f"layers.*.self_attn.{n}_proj" for n in ("q", "k", "v", "out")},
    "layers.*.attention.before": "layers.*.self_attn_layer_norm",
    "layers.*.ffn.before": "layers.*.final_layer_norm",
    "layers.*.ffn.step.up": "layers.*.fc1",
    "layers.*.ffn.step.down": "layers.*.fc2",
    "norm": "layer_norm",
}


def keys(config: XGLMConfig) -> KeyMap:
    return KeyMap(ROWS, "model.", ignored=(r"embed_positions\.weights$", *head_copies(config)))


HEADS = {"Model": None, "ForCausalLM": llama.generate}
ARCHITECTURE = Architecture("XGLM", XGLMConfig, build, keys, heads=HEADS)
