"""Reformer (Kitaev et al., 2020, arXiv:2001.04451): attention by hashes and in chunks, with reversible layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, LanguageModel, attach_unused, first
from ..nn.attention.buckets import HashedChunks, LocalChunks
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.reversible import AxialPositions, Doubled, ReversibleLayer
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from .common.architecture import Architecture

KINDS = ("local", "lsh")


@dataclass(kw_only=True)
class ReformerConfig(Config):
    model_type = "reformer"
    inert: ClassVar[tuple[str, ...]] = (
        *("axial_norm_std", "chunk_size_lm_head", "sinusoidal_pos_embds"),
        *("attention_probs_dropout_prob", "intermediate_size", "num_chunks_after", "num_chunks_before"),  # never read
    )

    vocab_size: Size = 320
    hidden_size: Size = 256
    attention_head_size: Size = 64
    num_attention_heads: Size = 12
    attn_layers: list[str] = field(default_factory=lambda: ["local", "lsh"] * 3)
    num_hidden_layers: Count = 6
    axial_pos_embds: bool = True
    axial_pos_shape: list[int] = field(default_factory=lambda: [64, 64])
    axial_pos_embds_dim: list[int] = field(default_factory=lambda: [64, 192])
    feed_forward_size: Size = 512
    hash_seed: int | None = None
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.05
    initializer_range: float = 0.02
    is_decoder: bool = False
    layer_norm_eps: float = 1e-12
    local_num_chunks_before: int = 1
    local_num_chunks_after: int = 0
    local_attention_probs_dropout_prob: float = 0.05
    local_attn_chunk_length: Size = 64
    lsh_attn_chunk_length: Size = 64
    lsh_attention_probs_dropout_prob: float = 0.0
    lsh_num_chunks_before: int = 1
    lsh_num_chunks_after: int = 0
    max_position_embeddings: Size = 4096
    num_buckets: int | list[int] | None = None
    num_hashes: Size = 1
    classifier_dropout: float | None = None
    tie_word_embeddings: Literal[False] = False
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Make lists of tuples, and count the layers."""
        entries = {name: list(value) if isinstance(value, tuple) else value for name, value in entries.items()}
        kinds = entries.get("attn_layers")
        return {"num_hidden_layers": len(kinds), **entries} if isinstance(kinds, list) else entries

    def check(self) -> None:
        if set(self.attn_layers) - set(KINDS) or not self.attn_layers:
            raise UnsupportedConfig(f"attn_layers holds 'local' and 'lsh', not {self.attn_layers}.")
        if len(self.attn_layers) != self.num_hidden_layers:
            raise UnsupportedConfig(f"num_hidden_layers = {self.num_hidden_layers} is not the number of attn_layers.")
        if self.axial_pos_embds and not len(self.axial_pos_shape) == len(self.axial_pos_embds_dim) == 2:
            raise UnsupportedConfig("axial_pos_shape and axial_pos_embds_dim hold two numbers each.")
        if self.axial_pos_embds and sum(self.axial_pos_embds_dim) != self.hidden_size:
            raise UnsupportedConfig(f"axial_pos_embds_dim does not add up to hidden_size = {self.hidden_size}.")
        if any(factor < 2 or factor % 2 for factor in self.factors or ()):
            raise UnsupportedConfig(f"num_buckets is even, and so are its factors, not {self.num_buckets}.")
        around = [
            getattr(self, f"{kind}_num_chunks_{side}") for kind in self.attn_layers for side in ("before", "after")
        ]
        if min(around) < 0 or (self.is_decoder and any(around[1::2])):
            raise UnsupportedConfig("Numbers of chunks are 0 and more; a decoder sees none of those after its own.")

    @property
    def factors(self) -> list[int] | None:
        return [self.num_buckets] if isinstance(self.num_buckets, int) else self.num_buckets

    @property
    def chunks(self) -> list[int]:
        """Chunk lengths of the kinds of layers that there are."""
        return [getattr(self, f"{kind}_attn_chunk_length") for kind in KINDS if kind in self.attn_layers]


def attention(config: ReformerConfig, kind: str) -> nn.Module:
    sizes = config.hidden_size, config.num_attention_heads, config.attention_head_size
    options: dict[str, Any] = {
        "causal": config.is_decoder,
        "chunk": getattr(config, f"{kind}_attn_chunk_length"),
        "before": getattr(config, f"{kind}_num_chunks_before"),
        "after": getattr(config, f"{kind}_num_chunks_after"),
        "dropout": getattr(config, f"{kind}_attention_probs_dropout_prob"),
        "least": min(config.chunks),
        "multiple": math.lcm(*config.chunks),
    }
    if kind == "local":
        return LocalChunks(*sizes, ("query", "key", "value"), **options)
    return HashedChunks(
        *sizes,
        buckets=config.factors,
        hashes=config.num_hashes,
        positions=config.max_position_embeddings,
        seed=config.hash_seed or 0,
        **options,
    )


def build(config: ReformerConfig) -> Stack:
    width, drop, eps = config.hidden_size, config.hidden_dropout_prob, config.layer_norm_eps
    (rows, columns), (high, wide) = config.axial_pos_shape, config.axial_pos_embds_dim
    axial = config.axial_pos_embds
    position = AxialPositions((rows, columns), (high, wide)) if axial else None
    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=position or LearnedPositions(config.max_position_embeddings, width),
        project=Doubled(),
        dropout=drop,
    )

    def layer(kind: str) -> ReversibleLayer:
        ffn = FeedForward(width, config.feed_forward_size, config.hidden_act, dropout=drop)
        return ReversibleLayer(attention(config, kind), ffn, (LayerNorm(width, eps), LayerNorm(width, eps)), drop)

    return Stack(embed, [layer(kind) for kind in config.attn_layers], LayerNorm(2 * width, eps))


def keys(config: ReformerConfig) -> KeyMap:
    rows: dict[str, str | Source] = {
        "embed.token": "embeddings.word_embeddings",
        "layers.*.attention.out": "encoder.layers.*.attention.output.dense",
        "layers.*.attention_norm": "encoder.layers.*.attention.layer_norm",
        "layers.*.ffn_norm": "encoder.layers.*.feed_forward.layer_norm",
        "layers.*.ffn.up": "encoder.layers.*.feed_forward.dense.dense",
        "layers.*.ffn.down": "encoder.layers.*.feed_forward.output.dense",
        "norm": "encoder.layer_norm",
    }
    for name in ("query", "key", "value", "query_key"):
        rows[f"layers.*.attention.projections.{name}"] = f"encoder.layers.*.attention.self_attention.{name}"
    if config.axial_pos_embds:
        (count, other), (high, wide), stored = config.axial_pos_shape, config.axial_pos_embds_dim, "position_embeddings"
        for axis, (name, ours, theirs) in enumerate(
            (("rows", (count, high), (count, 1, high)), ("columns", (other, wide), (1, other, wide)))
        ):
            rows[f"embed.position.table.{name}"] = Shaped(f"embeddings.{stored}.weights.{axis}", ours, theirs)
    else:
        rows["embed.position.table"] = "embeddings.position_embeddings.embedding"
    # Older files keep the values of hidden scores, and the bias twice.
    return KeyMap(rows, "reformer.", ignored=(r"mask_value_float(16|32)$", r"^lm_head\.decoder\.bias$"))


def word_head(config: ReformerConfig, backbone: Stack) -> Head:
    table = Linear(2 * config.hidden_size, config.vocab_size, bias=False)
    bias = nn.ParameterDict({"bias": nn.Parameter(torch.empty(config.vocab_size))})  # stored, and never added
    return attach_unused(Head(LanguageModel(table), {"table": "/lm_head.decoder"}), bias, {"bias": "/lm_head.bias"})


def generate(config: ReformerConfig, backbone: Stack) -> Head:
    if not config.is_decoder:
        raise UnsupportedConfig("A Reformer that writes needs is_decoder = true.")
    return word_head(config, backbone)


def fill(config: ReformerConfig, backbone: Stack) -> Head:
    if config.is_decoder:
        raise UnsupportedConfig("A Reformer that fills masks needs is_decoder = false.")
    return word_head(config, backbone)


def classify_text(config: ReformerConfig, backbone: Stack) -> Head:
    width, given = config.hidden_size, config.classifier_dropout
    dropout = config.hidden_dropout_prob if given is None else given
    dense = Dense(2 * width, "tanh", dropout=dropout)
    dense.linear = Linear(2 * width, width)
    head = Classifier(width, config.num_labels, pool=first, dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def answer(config: ReformerConfig, backbone: Stack) -> Head:
    return Head(Classifier(2 * config.hidden_size, 2), {"out": "/qa_outputs"})


ARCHITECTURE = Architecture(
    "Reformer",
    ReformerConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForCausalLM": generate,
        "ForMaskedLM": fill,
        "ForSequenceClassification": classify_text,
        "ForQuestionAnswering": answer,
    },
)
