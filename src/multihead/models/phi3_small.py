"""Phi-3-small (Abdin et al., 2024, arXiv:2404.14219): block-sparse attention beside dense, bounded gates, muP's scales.

Its files name their own code, which is not run: the family is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import PerHead, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel
from ..nn.attention.attention import Attention
from ..nn.attention.block_sparse import BlockSparseRotary
from ..nn.feedforward import BiasedGateFeedForward
from ..nn.layer import Layer
from ..nn.positions import Rotary
from ..nn.stack import Stack
from ..nn.weights import LayerNorm, Linear
from . import llama


@dataclass(kw_only=True)
class Phi3SmallConfig(Config):
    model_type = "phi3small"
    inert: ClassVar[tuple[str, ...]] = (
        "blocksparse_triton_kernel_block_size", "pad_sequence_to_multiple_of_64", "reorder_weights",
        "classifier_dropout", "attention_bias",  # published files have biases and say false
    )  # fmt: skip

    vocab_size: Size = 100352
    max_position_embeddings: Size = 8192
    rope_embedding_base: float = 1e6
    rope_position_scale: float = 1.0
    rope_scaling: None = None
    hidden_size: Size = 4096
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 32
    num_key_value_heads: Size | None = 8
    hidden_act: str = "gegelu"
    gegelu_limit: float = 20.0
    gegelu_pad_to_256: bool = True
    ff_dim_multiplier: int | None = None
    ff_intermediate_size: Size | None = 14336
    blocksparse_homo_head_pattern: bool = False
    blocksparse_block_size: Size = 64
    blocksparse_num_local_blocks: Size = 16
    blocksparse_vert_stride: Size = 8
    dense_attention_every_n_layers: int | None = 2
    embedding_dropout_prob: float = 0.1
    attention_dropout_prob: float = 0.0
    ffn_dropout_prob: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    mup_use_scaling: bool = True
    mup_width_multiplier: float | None = 8.0
    mup_embedding_multiplier: float | None = 10.0
    mup_attn_multiplier: float | None = 1.0
    dummy_token_indices: list[int] = field(default_factory=list)
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 100257
    eos_token_id: int | list[int] | None = 100257

    def check(self) -> None:
        if self.hidden_act != "gegelu" or self.ff_intermediate_size is None:
            raise UnsupportedConfig("hidden_act must be 'gegelu', and ff_intermediate_size must say its width.")
        if self.hidden_size % self.num_attention_heads:
            raise UnsupportedConfig(
                f"hidden_size = {self.hidden_size} is no multiple of num_attention_heads = {self.num_attention_heads}."
            )
        if any(not 0 <= token < self.vocab_size for token in self.dummy_token_indices):
            raise UnsupportedConfig(f"dummy_token_indices are outside the vocabulary of {self.vocab_size}.")

    @property
    def head_width(self) -> int:
        return self.hidden_size // self.num_attention_heads


class UnusedWords(LanguageModel):
    """Language model head that never predicts some tokens of its vocabulary.

    Args:
        unused: the tokens, whose logits are the lowest number.
    """

    def __init__(self, table: nn.Module, unused: list[int], scale: float) -> None:
        super().__init__(table, scale=scale)
        self.unused = unused

    def _shaped(self, scores: Tensor) -> Tensor:
        rows = torch.tensor(self.unused, device=scores.device)
        return super()._shaped(scores).index_fill(-1, rows, torch.finfo(scores.dtype).min)


def norm(config: Phi3SmallConfig) -> nn.Module:
    return LayerNorm(config.hidden_size, config.layer_norm_epsilon)


def positions(config: Phi3SmallConfig) -> tuple[Rotary, Rotary]:
    """Return the positions of dense and of block-sparse layers."""
    width, heads = config.head_width, config.num_attention_heads
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device="cpu") / width  # (head width / 2,)
    frequencies = 1.0 / (config.rope_position_scale * config.rope_embedding_base**exponents)
    step = 0 if config.blocksparse_homo_head_pattern else max(1, config.blocksparse_vert_stride // heads)
    sparse = BlockSparseRotary(
        frequencies,
        block=config.blocksparse_block_size,
        near=config.blocksparse_num_local_blocks,
        stride=config.blocksparse_vert_stride,
        heads=heads,
        step=step,
    )
    return Rotary(frequencies), sparse


def build(config: Phi3SmallConfig) -> Stack:
    dense, sparse = positions(config)
    every, inner = config.dense_attention_every_n_layers, config.ff_intermediate_size or 0
    scale = (config.mup_attn_multiplier or 1.0) / config.head_width if config.mup_use_scaling else None

    def layer(i: int) -> Layer:
        attention = Attention(
            config.hidden_size,
            config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            positions=dense if every and (i + 1) % every == 0 else sparse,
            causal=True,
            scale=scale,
            dropout=config.attention_dropout_prob,
        )
        ffn = BiasedGateFeedForward(config.hidden_size, inner, "quick_gelu", bound=config.gegelu_limit)
        return llama.layer(config, attention, ffn, norm, dropout=config.ffn_dropout_prob)

    times = config.mup_embedding_multiplier or 1.0
    return llama.decoder(config, layer, norm, scale=times, rescales=True, dropout=config.embedding_dropout_prob)


def keys(config: Phi3SmallConfig) -> KeyMap:
    """Return the key map; each key head's queries, its key and its value lie together, and so do gates and factors."""
    ours, theirs = "layers.*.attention.step", "layers.*.self_attn"
    heads, inner = config.num_key_value_heads or config.num_attention_heads, config.ff_intermediate_size or 0
    layout = config.num_attention_heads // heads, 1, 1
    rows: dict[str, str | Source] = {
        **{f"{ours}.{name}": PerHead(f"{theirs}.query_key_value", heads, layout, i) for i, name in enumerate("qkv")},
        f"{ours}.out": f"{theirs}.dense",
        **{f"layers.*.ffn.step.{name}": PerHead("layers.*.mlp.up_proj", inner, (1, 1), i)
           for i, name in enumerate(("gate", "up"))},
        "norm": "final_layernorm",
    }  # fmt: skip
    return llama.keys(config, rows)


def generate(config: Phi3SmallConfig, backbone: Stack) -> Head:
    scale = 1.0 / (config.mup_width_multiplier or 1.0)
    if not config.dummy_token_indices:
        return llama.generate(config, backbone, scale=scale)
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    rows: Mapping[str, str] = {} if tied else {"table": "/lm_head"}
    return Head(UnusedWords(table, config.dummy_token_indices, scale), rows)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Phi3Small",
    Phi3SmallConfig,
    build,
    keys=keys,
    heads={"Model": None, "ForCausalLM": generate, "ForSequenceClassification": llama.classify_text},
)
