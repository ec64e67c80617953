"""MobileBERT (Sun et al., 2020, arXiv:2004.02984): thin BERT layers between wide states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source, Transposed
from ..config import Size
from ..errors import UnsupportedConfig
from ..heads.heads import Both, Head, LanguageModel, Transform
from ..nn.bottleneck import Bottleneck, BottleneckLayer, NarrowAttention
from ..nn.embeddings import LearnedPositions, TrigramEmbeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Residual
from ..nn.norms import Affine
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from . import bert

EPS = 1e-5  # of two norms that do not ask the config


@dataclass(kw_only=True)
class MobileBertConfig(bert.BertConfig):
    model_type = "mobilebert"

    hidden_size: Size = 512
    num_hidden_layers: Size = 24
    num_attention_heads: Size = 4
    intermediate_size: Size = 512
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.0
    is_decoder: Literal[False] = False
    embedding_size: Size = 128
    trigram_input: Literal[True] = True
    use_bottleneck: Literal[True] = True
    intra_bottleneck_size: Size = 128
    use_bottleneck_attention: Literal[False] = False
    key_query_shared_bottleneck: Literal[True] = True
    num_feedforward_networks: Size = 4
    normalization_type: Literal["no_norm", "layer_norm"] = "no_norm"
    classifier_activation: bool = True  # whether the pooler has a layer
    true_hidden_size: Size | None = None  # follows from the others

    def check(self) -> None:
        if self.embedding_size >= self.hidden_size:
            raise UnsupportedConfig(
                f"embedding_size {self.embedding_size} must be below hidden_size {self.hidden_size}."
            )

    def norm(self, width: int, eps: float | None = None) -> nn.Module:
        if self.normalization_type == "no_norm":
            return Affine(width)
        return LayerNorm(width, self.layer_norm_eps if eps is None else eps)


def build(config: MobileBertConfig) -> Stack:
    wide, width, inner = config.hidden_size, config.intra_bottleneck_size, config.intermediate_size

    def narrow() -> Bottleneck:
        return Bottleneck(Linear(wide, width), config.norm(width))

    def layer() -> BottleneckLayer:
        count, dropout = config.num_feedforward_networks, config.attention_probs_dropout_prob
        eps = [None] * (count - 1) + [EPS]
        attention = NarrowAttention(width, config.num_attention_heads, wide=wide, narrow=narrow(), dropout=dropout)
        return BottleneckLayer(
            narrow(),
            attention,
            config.norm(width),
            [Residual(FeedForward(width, inner, config.hidden_act), after=config.norm(width, e)) for e in eps],
            Linear(width, wide),
            config.norm(wide),
            config.hidden_dropout_prob,
        )

    embed = TrigramEmbeddings(
        Embedding(config.vocab_size, config.embedding_size),
        widen=Linear(3 * config.embedding_size, wide),
        position=LearnedPositions(config.max_position_embeddings, wide),
        segment=Embedding(config.type_vocab_size, wide),
        norm=config.norm(wide, EPS),
        dropout=config.hidden_dropout_prob,
    )
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)])


def keys(config: MobileBertConfig) -> KeyMap:
    stem, last = "encoder.layer.*", config.num_feedforward_networks - 1
    rows: dict[str, str | Source] = {
        **bert.EMBEDDING_ROWS,
        "embed.widen": "embeddings.embedding_transformation",
        "layers.*.narrow.linear": f"{stem}.bottleneck.input.dense",
        "layers.*.narrow.norm": f"{stem}.bottleneck.input.LayerNorm",
        "layers.*.attention.narrow.linear": f"{stem}.bottleneck.attention.dense",
        "layers.*.attention.narrow.norm": f"{stem}.bottleneck.attention.LayerNorm",
        **{f"layers.*.attention.{n[0]}": f"{stem}.attention.self.{n}" for n in ("query", "key", "value")},
        "layers.*.attention.out": f"{stem}.attention.output.dense",
        "layers.*.norm": f"{stem}.attention.output.LayerNorm",
        "layers.*.widen": f"{stem}.output.bottleneck.dense",
        "layers.*.wide_norm": f"{stem}.output.bottleneck.LayerNorm",
    }
    for number in range(last + 1):
        ffn = stem if number == last else f"{stem}.ffn.{number}"
        rows[f"layers.*.ffns.{number}.step.up"] = f"{ffn}.intermediate.dense"
        rows[f"layers.*.ffns.{number}.step.down"] = f"{ffn}.output.dense"
        rows[f"layers.*.ffns.{number}.after"] = f"{ffn}.output.LayerNorm"
    unread = () if config.classifier_activation else (r"pooler\.dense\.(weight|bias)$",)
    ignored = (r"embeddings\.position_ids$", *unread, *bert.copies(config, "cls.predictions"))
    aliases = bert.aliases(config, "cls.predictions")
    return KeyMap(rows, "mobilebert.", ignored=ignored, renamed=bert.OLD_NORMS, aliases=aliases)


def word_head(config: MobileBertConfig, backbone: Stack) -> Head:
    """Build the MLM head: the input embeddings score the first channels, a table of the head the others."""
    wide, narrow, tied = config.hidden_size, config.embedding_size, config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(narrow, config.vocab_size, bias=False)
    rest = Linear(wide - narrow, config.vocab_size, bias=False)
    transform = Transform(wide, wide, config.hidden_act, config.layer_norm_eps)
    head = LanguageModel(table, transform=transform, bias=config.vocab_size, rest=rest)
    return Head(head, {**bert.word_rows(config), "rest": Transposed("/cls.predictions.dense")})


def pretraining(config: MobileBertConfig, backbone: Stack) -> Head:
    words, text = word_head(config, backbone), bert.classifier(config, 2, "/cls.seq_relationship")
    rows = {f"words.{k}": v for k, v in words.rows.items()} | {f"text.{k}": v for k, v in text.rows.items()}
    return Head(Both(words.module, text.module), rows)


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "MobileBert",
    MobileBertConfig,
    build,
    keys=keys,
    heads={
        **{end: make for end, make in bert.ARCHITECTURE.heads.items() if end != "LMHeadModel"},
        "ForPreTraining": pretraining,
        "ForMaskedLM": word_head,
    },
)
