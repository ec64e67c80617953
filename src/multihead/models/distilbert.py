"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108): half of BERT's layers, no token types, no pooler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Transform, first
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from . import bert
from .common.architecture import Architecture

EPS = 1e-12  # of all norms


@dataclass(kw_only=True)
class DistilBertConfig(Config):
    model_type = "distilbert"
    aliases: ClassVar[Mapping[str, str]] = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
    }

    vocab_size: Size = 30522
    max_position_embeddings: Size = 512
    sinusoidal_pos_embds: bool = False  # only how the stored table was filled
    n_layers: Count = 6
    n_heads: Size = 12
    dim: Size = 768
    hidden_dim: Size = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0


def build(config: DistilBertConfig) -> Stack:
    width = config.dim

    def layer() -> Layer:
        attention = Attention(width, config.n_heads, dropout=config.attention_dropout)
        ffn = FeedForward(width, config.hidden_dim, config.activation)
        return Layer(
            Residual(attention, after=LayerNorm(width, EPS)),
            Residual(ffn, after=LayerNorm(width, EPS), dropout=config.dropout),
        )

    embed = Embeddings(
        Embedding(config.vocab_size, width),
        position=LearnedPositions(config.max_position_embeddings, width),
        norm=LayerNorm(width, EPS),
        dropout=config.dropout,
    )
    return Stack(embed, [layer() for _ in range(config.n_layers)])


def keys(config: DistilBertConfig) -> KeyMap:
    rows = {ours: theirs for ours, theirs in bert.EMBEDDING_ROWS.items() if ours != "embed.segment"}
    attention = {"q": "q_lin", "k": "k_lin", "v": "v_lin", "out": "out_lin"}
    rows |= {f"layers.*.attention.step.{o}": f"transformer.layer.*.attention.{t}" for o, t in attention.items()}
    rows |= {
        "layers.*.attention.after": "transformer.layer.*.sa_layer_norm",
        "layers.*.ffn.step.up": "transformer.layer.*.ffn.lin1",
        "layers.*.ffn.step.down": "transformer.layer.*.ffn.lin2",
        "layers.*.ffn.after": "transformer.layer.*.output_layer_norm",
    }
    copies = (r"^vocab_projector\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "distilbert.", ignored=(r"embeddings\.position_ids$", *copies))


def word_head(config: DistilBertConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.dim, config.vocab_size, bias=False)
    head = LanguageModel(
        table, transform=Transform(config.dim, config.dim, config.activation, EPS), bias=config.vocab_size
    )
    rows = {
        "transform.dense": "/vocab_transform",
        "transform.norm": "/vocab_layer_norm",
        "bias": "/vocab_projector.bias",
    }
    return Head(head, rows if tied else {**rows, "table": "/vocab_projector"})


def classifier(config: DistilBertConfig, labels: int) -> Head:
    dense = Dense(config.dim, "relu")
    head = Classifier(config.dim, labels, pool=first, dense=dense, dropout=config.seq_classif_dropout)
    return Head(head, {"dense.linear": "/pre_classifier", "out": "/classifier"})


def token_classifier(config: DistilBertConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.dim, config.num_labels, dropout=config.dropout), {"out": "/classifier"})


def answer(config: DistilBertConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.dim, 2, dropout=config.qa_dropout), {"out": "/qa_outputs"})


ARCHITECTURE = Architecture(
    "DistilBert",
    DistilBertConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": lambda config, backbone: classifier(config, config.num_labels),
        "ForMultipleChoice": lambda config, backbone: classifier(config, 1),
        "ForTokenClassification": token_classifier,
        "ForQuestionAnswering": answer,
    },
)
