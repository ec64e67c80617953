"""ALBERT (Lan et al., 2019, arXiv:1909.11942): BERT whose layers share weights, over narrow embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Source
from ..config import Config, Copies, Count, Size
from ..heads.head_types import HeadType
from ..heads.head_types import pretraining as pretraining_scores
from ..heads.heads import Both, Classifier, Dense, Head, LanguageModel, Pooler, Transform, first
from ..heads.outputs import PreTrainingOutput
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert
from .bert import EMBEDDING_ROWS, OLD_NORMS, aliases, answer, copies
from .common.architecture import Architecture


@dataclass(kw_only=True)
class AlbertConfig(Config):
    model_type = "albert"

    vocab_size: Size = 30000
    embedding_size: Size = 128
    hidden_size: Size = 4096
    num_hidden_layers: Count = 12
    num_hidden_groups: Copies = 1
    inner_group_num: Copies = 1
    num_attention_heads: Size = 64
    intermediate_size: Size = 16384
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    max_position_embeddings: Size = 512
    type_vocab_size: Size = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    position_embedding_type: Literal["absolute"] = "absolute"
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3


def group_of(config: AlbertConfig, number: int) -> int:
    """Return the group that layer `number` of `num_hidden_layers` belongs to."""
    return int(number / (config.num_hidden_layers / config.num_hidden_groups))


def build(config: AlbertConfig) -> Stack:
    """Build a stack that repeats the layers of each group before those of the next."""
    narrow = config.embedding_size
    embed = bert.embeddings(config, narrow, project=Linear(narrow, config.hidden_size))
    groups = [[bert.layer(config) for _ in range(config.inner_group_num)] for _ in range(config.num_hidden_groups)]
    return Stack(embed, [layer for i in range(config.num_hidden_layers) for layer in groups[group_of(config, i)]])


@dataclass(frozen=True)
class GroupTensor(Source):
    """A tensor of one layer of one group; `#` in the key stands for the group number and then the layer number.

    Args:
        places: layer number -> (group number, layer number in the group).
    """

    places: tuple[tuple[int, int], ...]

    def numbered(self, numbers: Sequence[int]) -> Source:
        group, place = self.places[numbers[0]]
        return Source(self.key.replace("#", str(group), 1).replace("#", str(place), 1))


def keys(config: AlbertConfig) -> KeyMap:
    layer, each = "encoder.albert_layer_groups.#.albert_layers.#", range(config.inner_group_num)
    places = tuple((group_of(config, i), place) for i in range(config.num_hidden_layers) for place in each)
    names = {
        "layers.*.attention.step.q": f"{layer}.attention.query",
        "layers.*.attention.step.k": f"{layer}.attention.key",
        "layers.*.attention.step.v": f"{layer}.attention.value",
        "layers.*.attention.step.out": f"{layer}.attention.dense",
        "layers.*.attention.after": f"{layer}.attention.LayerNorm",
        "layers.*.ffn.step.up": f"{layer}.ffn",
        "layers.*.ffn.step.down": f"{layer}.ffn_output",
        "layers.*.ffn.after": f"{layer}.full_layer_layer_norm",
    }
    ignored = (r"embeddings\.position_ids$", *copies(config, "predictions"))
    rows: Rows = {
        **EMBEDDING_ROWS,
        "embed.project": "encoder.embedding_hidden_mapping_in",
        **{ours: GroupTensor(theirs, places) for ours, theirs in names.items()},
    }
    return KeyMap(rows, "albert.", ignored=ignored, renamed=OLD_NORMS, aliases=aliases(config, "predictions"))


def word_head(config: AlbertConfig, backbone: Stack) -> Head:
    narrow, tied = config.embedding_size, config.tie_word_embeddings
    transform = Transform(config.hidden_size, narrow, config.hidden_act, config.layer_norm_eps)
    table = backbone.embed.token if tied else Linear(narrow, config.vocab_size, bias=False)
    head = LanguageModel(table, transform=transform, bias=config.vocab_size)
    names = {"transform.dense": "dense", "transform.norm": "LayerNorm", "bias": "bias"}
    names = names if tied else {**names, "table": "decoder", "bias": "decoder.bias"}
    return Head(head, {ours: f"/predictions.{theirs}" for ours, theirs in names.items()})


def pooler(config: AlbertConfig, backbone: Stack) -> Head:
    return Head(Pooler(Dense(config.hidden_size, "tanh")), {"dense.linear": "pooler"}, optional=True)


def classifier(config: AlbertConfig, labels: int, key: str) -> Head:
    """Build a classifier of the pooled first token."""
    dense, dropout = Dense(config.hidden_size, "tanh"), config.classifier_dropout_prob
    head = Classifier(config.hidden_size, labels, pool=first, dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "pooler", "out": key})


def pretraining(config: AlbertConfig, backbone: Stack) -> Head:
    words, text = word_head(config, backbone), classifier(config, config.num_labels, "/sop_classifier.classifier")
    rows = {f"words.{k}": v for k, v in words.rows.items()} | {f"text.{k}": v for k, v in text.rows.items()}
    return Head(Both(words.module, text.module), rows)


def token_classifier(config: AlbertConfig, backbone: Stack) -> Head:
    head = Classifier(config.hidden_size, config.num_labels, dropout=config.classifier_dropout_prob)
    return Head(head, {"out": "/classifier"})


ARCHITECTURE = Architecture(
    "Albert",
    AlbertConfig,
    build,
    keys,
    heads={
        "Model": pooler,
        "ForPreTraining": pretraining,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": lambda config, backbone: classifier(config, config.num_labels, "/classifier"),
        "ForMultipleChoice": lambda config, backbone: classifier(config, 1, "/classifier"),
        "ForTokenClassification": token_classifier,
        "ForQuestionAnswering": answer,
    },
    head_types={
        "ForPreTraining": HeadType(
            "AutoModelForPreTraining",
            PreTrainingOutput,
            pretraining_scores("sop_logits", "sentence_order_label"),
            labels=("labels", "sentence_order_label"),
        )
    },
)
