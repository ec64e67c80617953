"""Falcon (Almazrouei et al., 2023, arXiv:2311.16867): parallel layers, few key heads; old ones with linear biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, PerHead, Source
from ..config import Count, Size
from ..nn.attention.alibi import Alibi, slopes
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, ParallelLayer, Residual
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from . import llama
from .common import gguf
from .common.architecture import Architecture
from .common.patterns import rotary_of
from .common.rotary_config import RotaryConfig
from .gpt2 import classify_tokens
from .gptj import head_copies


@dataclass(kw_only=True)
class FalconConfig(RotaryConfig):
    model_type = "falcon"
    inert = ("apply_residual_connection_post_layernorm",)
    aliases: ClassVar[Mapping[str, str]] = {  # names of the files before Falcon was in the reference
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_head_kv": "num_kv_heads",
    }

    vocab_size: Size = 65024
    hidden_size: Size = 4544
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 71
    num_ln_in_parallel_attn: Literal[None, 1, 2] = None
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    num_kv_heads: Size | None = None
    alibi: bool = False
    new_decoder_architecture: bool = False
    multi_query: bool = True
    parallel_attn: bool = True
    bias: bool = False
    max_position_embeddings: Size = 2048
    ffn_hidden_size: Size | None = None
    activation: str = "gelu"
    bos_token_id: int | None = 11
    eos_token_id: int | list[int] | None = 11

    @property
    def key_heads(self) -> int:
        if self.multi_query and not self.new_decoder_architecture:
            return 1
        return self.num_kv_heads or self.num_attention_heads

    @property
    def parallel_ffn(self) -> bool:
        """True if feed-forward and attention read the same input."""
        return self.new_decoder_architecture or self.parallel_attn

    @property
    def two_norms(self) -> bool:
        return self.new_decoder_architecture and self.num_ln_in_parallel_attn in (None, 2)


class RefinedWebConfig(FalconConfig):
    """Config of Falcon 40B's first files, whose code had the newer layers alone and no entry for them."""

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized({"new_decoder_architecture": True, **entries})


def positions_of(config: FalconConfig) -> Positions:
    width = config.hidden_size // config.num_attention_heads
    if config.alibi:  # in the precision that the biases had in training, scaled as the scores are
        return Alibi(slopes(config.num_attention_heads).to(torch.bfloat16), width**-0.5)
    return rotary_of(config, width)


def build(config: FalconConfig) -> Stack:
    width, positions = config.hidden_size, positions_of(config)

    def norm() -> LayerNorm:
        return LayerNorm(width, config.layer_norm_epsilon)

    def layer() -> nn.Module:
        attention = Attention(
            width,
            config.num_attention_heads,
            key_heads=config.key_heads,
            bias=config.bias,
            positions=positions,
            causal=True,
            dropout=config.attention_dropout,
        )
        ffn = FeedForward(width, config.ffn_hidden_size or 4 * width, config.activation, bias=config.bias)
        if config.parallel_ffn:
            other = norm() if config.two_norms else None
            return ParallelLayer(attention, ffn, norm(), ffn_norm=other, dropout=config.hidden_dropout)
        first, second = (Residual(m, before=norm(), dropout=config.hidden_dropout) for m in (attention, ffn))
        return Layer(first, second)

    embed = Embeddings(Embedding(config.vocab_size, width))
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)], norm())


def keys(config: FalconConfig) -> KeyMap:
    attention, ffn = ("attention", "ffn") if config.parallel_ffn else ("attention.step", "ffn.step")
    heads, stored = config.num_attention_heads, "h.*.self_attention.query_key_value"
    width = config.hidden_size // heads

    def part(i: int) -> Source:
        if config.new_decoder_architecture:
            return PerHead(stored, config.key_heads, (heads // config.key_heads, 1, 1), i)
        if config.multi_query:
            return Part(stored, (heads * width, width, width), i)
        return PerHead(stored, heads, (1, 1, 1), i)

    norms = {"attention.before": "input_layernorm", "ffn.before": "post_attention_layernorm"}
    if config.parallel_ffn:
        norms = {"norm": "ln_attn", "ffn_norm": "ln_mlp"} if config.two_norms else {"norm": "input_layernorm"}
    rows: dict[str, str | Source] = {
        "embed.token": "word_embeddings",
        **{f"layers.*.{attention}.{name}": part(i) for i, name in enumerate(("q", "k", "v"))},
        **{f"layers.*.{ours}": f"h.*.{theirs}" for ours, theirs in norms.items()},
        f"layers.*.{attention}.out": "h.*.self_attention.dense",
        f"layers.*.{ffn}.up": "h.*.mlp.dense_h_to_4h",
        f"layers.*.{ffn}.down": "h.*.mlp.dense_4h_to_h",
        "norm": "ln_f",
    }
    return KeyMap(rows, "transformer.", ignored=(r"rotary.*inv_freq$", *head_copies(config)))


def gguf_keys(config: FalconConfig) -> KeyMap:
    """Return the key map of llama.cpp's names: fused rows are sorted, the attention's own norm is the second."""
    width = config.hidden_size // config.num_attention_heads
    sizes = tuple(heads * width for heads in (config.num_attention_heads, config.key_heads, config.key_heads))
    fused = {f"layers.*.attention.{name}": Part("blk.*.attn_qkv", sizes, i) for i, name in enumerate(("q", "k", "v"))}
    norms = {"norm": "attn_norm_2", "ffn_norm": "attn_norm"} if config.two_norms else {"norm": "attn_norm"}
    plain = gguf.llama_keys(config)
    rows = {ours: row for ours, row in plain.rows.items() if not ours.startswith("layers.")}
    rows |= {f"layers.*.{ours}": f"blk.*.{theirs}" for ours, theirs in norms.items()}
    rows |= {f"layers.*.ffn.{name}": f"blk.*.ffn_{name}" for name in ("up", "down")}
    return replace(plain, rows={**rows, **fused, "layers.*.attention.out": "blk.*.attn_output"})


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file: parallel, rotary models only; two norms mark the newer ones."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "vocab_size")
    own = {"num_kv_heads": "num_key_value_heads", "ffn_hidden_size": "intermediate_size"}
    found = gguf.entries(metadata, names, layer_norm_epsilon="layer_norm_eps", **own)
    new = found.get("num_kv_heads", 1) > 1
    return {**found, "new_decoder_architecture": new, "multi_query": True, "parallel_attn": True, "alibi": False}


ARCHITECTURE = Architecture(
    "Falcon",
    FalconConfig,
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
)
REFINED_WEB = replace(ARCHITECTURE, config=RefinedWebConfig)
