"""BLOOM (Le Scao et al., 2022, arXiv:2211.05100): a pre-norm decoder whose order comes from linear biases alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, PerHead, Source
from ..config import Config, Count, Size
from ..nn.attention.alibi import Alibi, slopes
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, NormedResidual, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import llama
from .common import gguf
from .common.architecture import Architecture
from .gpt2 import classify_tokens
from .gptj import head_copies


@dataclass(kw_only=True)
class BloomConfig(Config):
    model_type = "bloom"
    inert = ("n_inner",)
    aliases: ClassVar[Mapping[str, str]] = {
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "n_embed": "hidden_size",
    }

    vocab_size: Size = 250880
    hidden_size: Size = 64
    n_layer: Count = 2
    n_head: Size = 8
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    apply_residual_connection_post_layernorm: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    slow_but_exact: Literal[False] = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


def build(config: BloomConfig) -> Stack:
    width, positions = config.hidden_size, Alibi(slopes(config.n_head))
    residual = NormedResidual if config.apply_residual_connection_post_layernorm else Residual

    def norm() -> LayerNorm:
        return LayerNorm(width, config.layer_norm_epsilon)

    def step(module: nn.Module) -> Residual:
        return residual(module, before=norm(), dropout=config.hidden_dropout)

    def layer() -> Layer:
        attention = Attention(width, config.n_head, positions=positions, causal=True, dropout=config.attention_dropout)
        return Layer(step(attention), step(FeedForward(width, 4 * width, "gelu_pytorch_tanh")))

    embed = Embeddings(Embedding(config.vocab_size, width), norm=norm())
    return Stack(embed, [layer() for _ in range(config.n_layer)], norm())


def keys(config: BloomConfig) -> KeyMap:
    fused: Mapping[str, Source] = {
        f"layers.*.attention.step.{name}": PerHead("h.*.self_attention.query_key_value", config.n_head, (1, 1, 1), i)
        for i, name in enumerate(("q", "k", "v"))
    }
    rows = {
        "embed.token": "word_embeddings",
        "embed.norm": "word_embeddings_layernorm",
        "layers.*.attention.before": "h.*.input_layernorm",
        "layers.*.attention.step.out": "h.*.self_attention.dense",
        "layers.*.ffn.before": "h.*.post_attention_layernorm",
        "layers.*.ffn.step.up": "h.*.mlp.dense_h_to_4h",
        "layers.*.ffn.step.down": "h.*.mlp.dense_4h_to_h",
        "norm": "ln_f",
    }
    return KeyMap({**rows, **fused}, "transformer.", ignored=head_copies(config))


def gguf_keys(config: BloomConfig) -> KeyMap:
    """Return the key map of llama.cpp's names; it stores all queries before all keys."""
    own: dict[str, str | Source] = {
        f"layers.*.attention.step.{name}": Part("blk.*.attn_qkv", (config.hidden_size,) * 3, i)
        for i, name in enumerate(("q", "k", "v"))
    }
    return gguf.llama_keys(config, {**own, "embed.norm": "token_embd_norm"}, without=("layers.*.ffn.step.gate",))


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "layer_norm_epsilon": "layer_norm_eps"}
    return gguf.entries(metadata, ("hidden_size",), **own)


ARCHITECTURE = Architecture(
    "Bloom",
    BloomConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": llama.generate,
        "ForSequenceClassification": llama.classify_text,
        "ForTokenClassification": classify_tokens,
        "ForQuestionAnswering": llama.answer,
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
    reads_positions=False,
)
