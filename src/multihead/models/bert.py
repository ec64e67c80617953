"""BERT (Devlin et al., 2018, arXiv:1810.04805): a post-norm encoder with learned positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Both, Classifier, Dense, Head, LanguageModel, Pooler, Transform, attach_unused, first
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.embeddings import Embeddings, LearnedPositions
from ..nn.feedforward import FeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm, Linear
from .common import gguf
from .common.architecture import Architecture, MakeHead


@dataclass(kw_only=True)
class BertConfig(Config):
    model_type = "bert"

    vocab_size: Size = 30522
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: Size = 512
    type_vocab_size: Size = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    pad_token_id: int | None = 0

    def check(self) -> None:
        if self.add_cross_attention and not self.is_decoder:
            raise UnsupportedConfig("Only a decoder attends to a source: add_cross_attention needs is_decoder=True.")


def layer(config: Any, mixer: nn.Module | None = None, ffn: nn.Module | None = None, **changes: Any) -> Layer:
    """Build a post-norm layer; a decoder's may have cross-attention.

    Only a config with a field `is_decoder` makes decoders: other families read both ways, whatever their files say.

    Args:
        mixer, ffn: what takes the place of attention and of the feed-forward. changes: those of the attention.
    """
    width, dropout = config.hidden_size, config.attention_probs_dropout_prob
    usual = {"causal": vars(config).get("is_decoder", False), "dropout": dropout}

    def step(module: nn.Module) -> Residual:
        return Residual(module, after=LayerNorm(width, config.layer_norm_eps), dropout=config.hidden_dropout_prob)

    own = step(mixer or Attention(width, config.num_attention_heads, **{**usual, **changes}))
    last = step(ffn or FeedForward(width, config.intermediate_size, config.hidden_act))
    if not vars(config).get("add_cross_attention", False):
        return Layer(own, last)
    return CrossLayer(own, step(CrossAttention(width, config.num_attention_heads, dropout=dropout)), last)


def embeddings(
    config: Any,
    width: int | None = None,
    *,
    padding: int | None = None,
    order: bool = True,
    types: bool = True,
    normed: bool = True,
    kind: type[Embeddings] = Embeddings,
    **options: Any,
) -> Embeddings:
    """Build the embeddings: the normalized sum of tokens, positions and token types.

    Args:
        width: where it is not the states'. padding: an id that takes no position, as `LearnedPositions` says.
        order, types: whether positions and types have vectors. normed: whether the sum is normalized.
        kind: the class. options: more of its arguments.
    """
    width, offset = width or config.hidden_size, 0 if padding is None else padding + 1
    position = LearnedPositions(config.max_position_embeddings, width, offset=offset, padding=padding)
    return kind(
        Embedding(config.vocab_size, width),
        position=position if order else None,
        segment=Embedding(config.type_vocab_size, width) if types else None,
        norm=LayerNorm(width, config.layer_norm_eps) if normed else None,
        dropout=config.hidden_dropout_prob,
        **options,
    )


def build(config: BertConfig, padding: int | None = None) -> Stack:
    """Build the encoder. `padding`: an id that takes no position; see `LearnedPositions`."""
    return Stack(embeddings(config, padding=padding), [layer(config) for _ in range(config.num_hidden_layers)])


EMBEDDING_ROWS: Rows = {
    "embed.token": "embeddings.word_embeddings",
    "embed.position.table": "embeddings.position_embeddings",
    "embed.segment": "embeddings.token_type_embeddings",
    "embed.norm": "embeddings.LayerNorm",
}
LAYER_ROWS: Rows = {
    "layers.*.attention.step.q": "encoder.layer.*.attention.self.query",
    "layers.*.attention.step.k": "encoder.layer.*.attention.self.key",
    "layers.*.attention.step.v": "encoder.layer.*.attention.self.value",
    "layers.*.attention.step.out": "encoder.layer.*.attention.output.dense",
    "layers.*.attention.after": "encoder.layer.*.attention.output.LayerNorm",
    "layers.*.cross.step.q": "encoder.layer.*.crossattention.self.query",
    "layers.*.cross.step.k": "encoder.layer.*.crossattention.self.key",
    "layers.*.cross.step.v": "encoder.layer.*.crossattention.self.value",
    "layers.*.cross.step.out": "encoder.layer.*.crossattention.output.dense",
    "layers.*.cross.after": "encoder.layer.*.crossattention.output.LayerNorm",
    "layers.*.ffn.step.up": "encoder.layer.*.intermediate.dense",
    "layers.*.ffn.step.down": "encoder.layer.*.output.dense",
    "layers.*.ffn.after": "encoder.layer.*.output.LayerNorm",
}
OLD_NORMS = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))


def keys(config: BertConfig) -> KeyMap:
    ignored = (r"embeddings\.position_ids$", *copies(config, "cls.predictions"))
    return KeyMap(
        {**EMBEDDING_ROWS, **LAYER_ROWS},
        "bert.",
        ignored=ignored,
        renamed=OLD_NORMS,
        aliases=aliases(config, "cls.predictions"),
    )


def dropout_of(config: Any) -> float:
    """Return the dropout of a classifier: its own, or that of hidden states."""
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


def copies(config: Config, predictions: str) -> tuple[str, ...]:
    """Return patterns of the stored copy of tied embeddings."""
    return (rf"^{predictions}\.decoder\.(weight|bias)$",) if config.tie_word_embeddings else ()


def aliases(config: Config, predictions: str) -> tuple[tuple[str, str], ...]:
    """Return the two names of the head's bias: older files store an untied one under the name of the tied one."""
    return () if config.tie_word_embeddings else ((f"{predictions}.decoder.bias", f"{predictions}.bias"),)


def word_head(config: BertConfig, backbone: Stack) -> Head:
    transform = Transform(config.hidden_size, config.hidden_size, config.hidden_act, config.layer_norm_eps)
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    return Head(LanguageModel(table, transform=transform, bias=config.vocab_size), word_rows(config))


def word_rows(config: Config, stem: str = "cls.predictions", norm: str = "transform.LayerNorm") -> Rows:
    names = {"transform.dense": "transform.dense", "transform.norm": norm, "bias": "bias"}
    names = names if config.tie_word_embeddings else {**names, "table": "decoder", "bias": "decoder.bias"}
    return {ours: f"/{stem}.{theirs}" for ours, theirs in names.items()}


def pooling(config: BertConfig) -> tuple[nn.Module, Rows]:
    """Return the pooler of the first state and its rows; MobileBERT's may be the identity."""
    if not getattr(config, "classifier_activation", True):
        return nn.Identity(), {}
    return Dense(config.hidden_size, "tanh"), {"dense.linear": "pooler.dense"}


def pooler(config: BertConfig, backbone: Stack) -> Head:
    dense, rows = pooling(config)
    return Head(Pooler(dense), rows, optional=True)


def classifier(config: BertConfig, labels: int, key: str) -> Head:
    """Build a classifier of the pooled first token."""
    dense, rows = pooling(config)
    head = Classifier(config.hidden_size, labels, pool=first, dense=dense, dropout=dropout_of(config))
    return Head(head, {**rows, "out": key})


def pretraining(config: BertConfig, backbone: Stack) -> Head:
    words, text = word_head(config, backbone), classifier(config, 2, "/cls.seq_relationship")
    rows = {f"words.{k}": v for k, v in words.rows.items()} | {f"text.{k}": v for k, v in text.rows.items()}
    return Head(Both(words.module, text.module), rows)


def beside_pooler(make: MakeHead | None) -> MakeHead:
    """Build a head beside the pooler, which the family's checkpoints store and no forward pass uses."""

    def build_head(config: Any, backbone: Stack) -> Head:
        assert make is not None
        dense, rows = pooling(config)
        named = {ours.removeprefix("dense."): theirs for ours, theirs in rows.items()}
        return attach_unused(make(config, backbone), dense, named)

    return build_head


def token_classifier(config: BertConfig, backbone: Stack) -> Head:
    head = Classifier(config.hidden_size, config.num_labels, dropout=dropout_of(config))
    return Head(head, {"out": "/classifier"})


def answer(config: BertConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.hidden_size, 2), {"out": "/qa_outputs"})


def gguf_keys(config: BertConfig) -> KeyMap:
    """Return the key map of llama.cpp's names; its files have no pooler."""
    return KeyMap(
        {
            "embed.token": "token_embd",
            "embed.position.table": "position_embd",
            "embed.segment": "token_types",
            "embed.norm": "token_embd_norm",
            "layers.*.attention.step.q": "blk.*.attn_q",
            "layers.*.attention.step.k": "blk.*.attn_k",
            "layers.*.attention.step.v": "blk.*.attn_v",
            "layers.*.attention.step.out": "blk.*.attn_output",
            "layers.*.attention.after": "blk.*.attn_output_norm",
            "layers.*.ffn.step.up": "blk.*.ffn_up",
            "layers.*.ffn.step.down": "blk.*.ffn_down",
            "layers.*.ffn.after": "blk.*.layer_output_norm",
        }
    )


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps")
    kinds = metadata.get("tokenizer.ggml.token_type_count", 2)
    return {**gguf.entries(metadata, (*names, "max_position_embeddings")), "type_vocab_size": kinds}


ARCHITECTURE = Architecture(
    "Bert",
    BertConfig,
    build,
    keys,
    heads={
        "Model": pooler,
        "ForPreTraining": pretraining,
        "ForMaskedLM": word_head,
        "LMHeadModel": word_head,
        "ForNextSentencePrediction": lambda config, backbone: classifier(config, 2, "/cls.seq_relationship"),
        "ForSequenceClassification": lambda config, backbone: classifier(config, config.num_labels, "/classifier"),
        "ForMultipleChoice": lambda config, backbone: classifier(config, 1, "/classifier"),
        "ForTokenClassification": token_classifier,
        "ForQuestionAnswering": answer,
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
WITHOUT_POOLER = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering")  # classes that read none
