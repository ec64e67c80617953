"""CANINE (Clark et al., 2021, arXiv:2103.06874): an encoder of Unicode characters, without a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, Pooler, attach_unused
from ..nn.downsampling import (
    PRIMES,
    BlockAttention,
    DownsampledStack,
    Downsampler,
    HashedEmbeddings,
    Upsampler,
    first_downsampled,
)
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.forward_context import ForwardContext
from ..nn.weights import Embedding, LayerNorm
from . import bert
from .common.architecture import Architecture, MakeHead


@dataclass(kw_only=True)
class CanineConfig(Config):
    model_type = "canine"

    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: Size = 16384
    type_vocab_size: Size = 16
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = 0xE000
    eos_token_id: int | list[int] | None = 0xE001
    downsampling_rate: Size = 4
    upsampling_kernel_size: Size = 4
    num_hash_functions: Size = 8
    num_hash_buckets: Size = 16384
    local_transformer_stride: Size = 128

    def check(self) -> None:
        if self.num_hash_functions > len(PRIMES):
            raise UnsupportedConfig(f"num_hash_functions is at most {len(PRIMES)}, not {self.num_hash_functions}.")
        if self.hidden_size % self.num_hash_functions:
            raise UnsupportedConfig(
                f"hidden_size = {self.hidden_size} is no multiple of num_hash_functions = {self.num_hash_functions}."
            )


class DeepPooler(Pooler):
    """`dense` of the deep layers' first state: (sequences, width)."""

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        return self.dense(first_downsampled(hidden, context))


def build(config: CanineConfig) -> DownsampledStack:
    width, eps, act, drop = config.hidden_size, config.layer_norm_eps, config.hidden_act, config.hidden_dropout_prob
    heads, rate = config.num_attention_heads, config.downsampling_rate
    embed = Embeddings(
        HashedEmbeddings(width, buckets=config.num_hash_buckets, hashes=config.num_hash_functions),  # type: ignore[arg-type]
        # As many rows as buckets, of which texts reach the first max_position_embeddings.
        position=LearnedPositions(config.num_hash_buckets, width),
        segment=Embedding(config.type_vocab_size, width),
        norm=LayerNorm(width, eps),
        dropout=drop,
    )
    block, share = config.local_transformer_stride, config.attention_probs_dropout_prob
    return DownsampledStack(
        embed,
        [bert.layer(config) for _ in range(config.num_hidden_layers)],
        enter=bert.layer(config, mixer=BlockAttention(width, heads, block=block, dropout=share)),
        down=Downsampler(width, rate=rate, act=act, eps=eps),
        up=Upsampler(width, rate=rate, kernel=config.upsampling_kernel_size, act=act, eps=eps, dropout=drop),
        leave=bert.layer(config),
    )


def keys(config: CanineConfig) -> KeyMap:
    def shallow(ours: str, theirs: str) -> Rows:
        pairs = bert.LAYER_ROWS.items()
        return {o.replace("layers.*", ours): str(t).replace("encoder.layer.*", f"{theirs}.layer.0") for o, t in pairs}

    rows = {
        "embed.token.tables.*": "char_embeddings.HashBucketCodepointEmbedder_*",
        "embed.position.table": "char_embeddings.char_position_embeddings",
        "embed.segment": "char_embeddings.token_type_embeddings",
        "embed.norm": "char_embeddings.LayerNorm",
        **bert.LAYER_ROWS,
        **shallow("enter", "initial_char_encoder"),
        **shallow("leave", "final_char_encoder"),
        "down.conv": "chars_to_molecules.conv",
        "down.norm": "chars_to_molecules.LayerNorm",
        "up.conv": "projection.conv",
        "up.norm": "projection.LayerNorm",
    }
    # The published files keep a head for masked characters, which no class reads.
    return KeyMap(rows, "canine.", ignored=(r"char_embeddings\.position_ids$", r"^cls\."), renamed=bert.OLD_NORMS)


def pooler(config: CanineConfig, backbone: DownsampledStack) -> Head:
    return Head(DeepPooler(Dense(config.hidden_size, "tanh")), {"dense.linear": "pooler.dense"}, optional=True)


def classifier(labels: int | None = None) -> MakeHead:
    """Return a maker of a classifier of the deep layers' pooled first state."""

    def make(config: CanineConfig, backbone: DownsampledStack) -> Head:
        width, dense = config.hidden_size, Dense(config.hidden_size, "tanh")
        count, dropout = labels or config.num_labels, config.hidden_dropout_prob
        head = Classifier(width, count, pool=first_downsampled, dense=dense, dropout=dropout)
        return Head(head, {"dense.linear": "pooler.dense", "out": "/classifier"})

    return make


def token_classifier(config: CanineConfig, backbone: DownsampledStack) -> Head:
    head = Classifier(config.hidden_size, config.num_labels, dropout=config.hidden_dropout_prob)
    return Head(head, {"out": "/classifier"})


def beside_pooler(make: Any) -> MakeHead:
    """Return the head beside the pooler, which files store and no pass of it uses."""
    return lambda config, backbone: attach_unused(
        make(config, backbone), Dense(config.hidden_size, "tanh"), {"linear": "pooler.dense"}
    )


ARCHITECTURE = Architecture(
    "Canine",
    CanineConfig,
    build,
    keys,
    heads={
        "Model": pooler,
        "ForSequenceClassification": classifier(),
        "ForMultipleChoice": classifier(1),
        "ForTokenClassification": beside_pooler(token_classifier),
        "ForQuestionAnswering": beside_pooler(bert.answer),
    },
)
