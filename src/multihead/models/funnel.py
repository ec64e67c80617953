"""Funnel Transformer (Dai et al., 2020, arXiv:2006.03236): blocks that read ever fewer positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.head_types import HeadType, pooled
from ..heads.heads import Classifier, Dense, Head, LanguageModel
from ..heads.outputs import HiddenOutput
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Residual
from ..nn.sequence_pooling import PooledAttention, PooledLayer, PooledStack, Pooling, first_pooled
from ..nn.weights import Embedding, LayerNorm, Linear
from . import electra
from .common.architecture import Architecture, MakeHead

CLS_TYPE = 2  # the token type of the first token, which belongs to both texts of a pair


@dataclass(kw_only=True)
class FunnelConfig(Config):
    model_type = "funnel"
    aliases: ClassVar = {"hidden_size": "d_model", "num_attention_heads": "n_head"}
    inert = ("rel_attn_type", "max_position_embeddings", "type_vocab_size")

    vocab_size: Size = 30522
    block_sizes: list[int] = field(default_factory=lambda: [4, 4, 4])
    block_repeats: list[int] | None = None
    num_decoder_layers: Count = 2
    d_model: Size = 768
    n_head: Size = 12
    d_head: Size = 64
    d_inner: Size = 3072
    hidden_act: str = "gelu_new"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    initializer_range: float = 0.1
    initializer_std: float | None = None
    layer_norm_eps: float = 1e-9
    pooling_type: Literal["mean", "max"] = "mean"
    attention_type: Literal["relative_shift", "factorized"] = "relative_shift"  # two ways to the same numbers
    separate_cls: bool = True
    truncate_seq: bool = True
    pool_q_only: bool = True
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True

    def check(self) -> None:
        if len(self.repeats) != len(self.block_sizes) or min([*self.block_sizes, *self.repeats], default=0) < 1:
            raise UnsupportedConfig(
                "block_sizes and block_repeats need one number above 0 for each block, not "
                f"{self.block_sizes} and {self.block_repeats}."
            )
        if self.d_model % 2:
            raise UnsupportedConfig(f"d_model must be even, not {self.d_model}.")

    @property
    def repeats(self) -> list[int]:
        return [1] * len(self.block_sizes) if self.block_repeats is None else self.block_repeats

    @property
    def num_hidden_layers(self) -> int:
        return sum(self.block_sizes)


def build(config: FunnelConfig, whole: bool = True) -> PooledStack:
    """Build the stack. `whole`: with the layers of all tokens after the blocks."""
    width, eps, drop = config.d_model, config.layer_norm_eps, config.hidden_dropout

    def layer() -> PooledLayer:
        attention = PooledAttention(
            width,
            config.n_head,
            config.d_head,
            first_apart=config.separate_cls,
            apart=CLS_TYPE,
            dropout=config.attention_dropout,
            drop=drop,
        )
        ffn = FeedForward(width, config.d_inner, config.hidden_act, dropout=config.activation_dropout)
        return PooledLayer(
            Residual(attention, after=LayerNorm(width, eps), dropout=drop),
            Residual(ffn, after=LayerNorm(width, eps), dropout=drop),
        )

    return PooledStack(
        Embeddings(Embedding(config.vocab_size, width), norm=LayerNorm(width, eps), dropout=drop, typed=True),
        [[layer() for _ in range(size)] for size in config.block_sizes],
        [layer() for _ in range(config.num_decoder_layers)] if whole else None,
        repeats=config.repeats,
        pooling=Pooling(config.pooling_type, config.separate_cls, config.truncate_seq),
        queries_only=config.pool_q_only,
    )


def keys(config: FunnelConfig, whole: bool = True) -> KeyMap:
    width, inner = config.d_model, config.n_head * config.d_head
    names = {
        "attention.step.q": "attention.q_head",
        "attention.step.k": "attention.k_head",
        "attention.step.v": "attention.v_head",
        "attention.step.out": "attention.post_proj",
        "attention.step.word_bias": "attention.r_w_bias",
        "attention.step.distance_bias": "attention.r_r_bias",
        "attention.step.segment_bias": "attention.r_s_bias",
        "attention.step.segments": "attention.seg_embed",
        "attention.after": "attention.layer_norm",
        "ffn.step.up": "ffn.linear_1",
        "ffn.step.down": "ffn.linear_2",
        "ffn.after": "ffn.layer_norm",
    }
    rows: dict[str, str | Source] = {
        "embed.token": "embeddings.word_embeddings",
        "embed.norm": "embeddings.layer_norm",
    }
    for ours, theirs in {"layers.*.*": "encoder.blocks.*.*", "decoder.*": "decoder.layers.*"}.items():
        rows |= {f"{ours}.{own}": f"{theirs}.{name}" for own, name in names.items()}
        kernel = Shaped(
            f"{theirs}.attention.r_kernel", (inner, width), (width, config.n_head, config.d_head), (1, 2, 0)
        )
        rows[f"{ours}.attention.step.distances.weight"] = kernel
    # A stack without a decoder leaves out that of a file that has one.
    ignored = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "funnel.", ignored=ignored if whole else (*ignored, r"^(funnel\.)?decoder\."))


def word_head(config: FunnelConfig, backbone: PooledStack) -> Head:
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.d_model, config.vocab_size, bias=False)
    rows = {"bias": "/lm_head.bias"}
    head = LanguageModel(table, bias=config.vocab_size)
    return Head(head, rows if tied else {**rows, "table": "/lm_head"})


def classifier(labels: int | None = None) -> MakeHead:
    """Return a maker of a classifier of the last block's first state."""

    def make(config: FunnelConfig, backbone: PooledStack) -> Head:
        dense, count = Dense(config.d_model, "tanh"), labels or config.num_labels
        head = Classifier(config.d_model, count, pool=first_pooled, dense=dense, dropout=config.hidden_dropout)
        return Head(head, {"dense.linear": "/classifier.linear_hidden", "out": "/classifier.linear_out"})

    return make


def token_classifier(config: FunnelConfig, backbone: PooledStack) -> Head:
    head = Classifier(config.d_model, config.num_labels, dropout=config.hidden_dropout)
    return Head(head, {"out": "/classifier"})


def detector(config: FunnelConfig, backbone: PooledStack) -> Head:
    return electra.detector(config, backbone)  # type: ignore[arg-type]


def answer(config: FunnelConfig, backbone: PooledStack) -> Head:
    return Head(Classifier(config.d_model, 2), {"out": "/qa_outputs"})


BLOCKS = (lambda config: build(config, whole=False), lambda config: keys(config, whole=False))
ARCHITECTURE = Architecture(
    "Funnel",
    FunnelConfig,
    build,
    keys,
    heads={
        "Model": None,
        "BaseModel": None,
        "ForPreTraining": detector,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": classifier(),
        "ForMultipleChoice": classifier(1),
        "ForTokenClassification": token_classifier,
        "ForQuestionAnswering": answer,
    },
    head_types={
        "ForPreTraining": electra.ARCHITECTURE.head_types["ForPreTraining"],
        "BaseModel": HeadType("", HiddenOutput, pooled, labels=()),
    },
    backbone_variants=dict.fromkeys(("BaseModel", "ForSequenceClassification", "ForMultipleChoice"), BLOCKS),
    reads_positions=False,
)
