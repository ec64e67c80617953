"""ELECTRA (Clark et al., 2020, arXiv:2003.10555): BERT with narrow embeddings; a generator and a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..heads.head_types import HeadType, detected
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Transform, first
from ..heads.outputs import ScoresOutput
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert


@dataclass(kw_only=True)
class ElectraConfig(bert.BertConfig):
    model_type = "electra"

    embedding_size: Size = 128
    hidden_size: Size = 256
    num_attention_heads: Size = 4
    intermediate_size: Size = 1024
    summary_type: Literal["first"] = "first"
    summary_use_proj: Literal[True] = True
    summary_activation: str = "gelu"
    summary_last_dropout: float = 0.1


def build(config: ElectraConfig) -> Stack:
    narrow, width = config.embedding_size, config.hidden_size
    embed = bert.embeddings(config, narrow, project=None if narrow == width else Linear(narrow, width))
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: ElectraConfig) -> KeyMap:
    rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS, "embed.project": "embeddings_project"}
    copies = (r"^generator_lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "electra.", ignored=(r"embeddings\.position_ids$", *copies), renamed=bert.OLD_NORMS)


def word_head(config: ElectraConfig, backbone: Stack) -> Head:
    narrow, tied = config.embedding_size, config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(narrow, config.vocab_size, bias=False)
    transform = Transform(config.hidden_size, narrow, "gelu", config.layer_norm_eps)
    rows = {
        "transform.dense": "/generator_predictions.dense",
        "transform.norm": "/generator_predictions.LayerNorm",
        "bias": "/generator_lm_head.bias",
    }
    rows = rows if tied else {**rows, "table": "/generator_lm_head"}
    return Head(LanguageModel(table, transform=transform, bias=config.vocab_size), rows)


def detector(config: ElectraConfig, backbone: Stack) -> Head:
    """Build the detector of replaced tokens: one logit for each token."""
    head = Classifier(config.hidden_size, 1, dense=Dense(config.hidden_size, config.hidden_act))
    stem = "/discriminator_predictions.dense"
    return Head(head, {"dense.linear": stem, "out": f"{stem}_prediction"})


def classify_text(config: ElectraConfig, backbone: Stack) -> Head:
    dense = Dense(config.hidden_size, "gelu")
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=bert.dropout_of(config))
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def choose(config: ElectraConfig, backbone: Stack) -> Head:
    dense = Dense(config.hidden_size, config.summary_activation)
    head = Classifier(config.hidden_size, 1, pool=first, dense=dense, dropout=config.summary_last_dropout)
    return Head(head, {"dense.linear": "/sequence_summary.summary", "out": "/classifier"})


ARCHITECTURE = bert.ARCHITECTURE.derive(
    "Electra",
    ElectraConfig,
    build,
    keys=keys,
    heads={
        "Model": None,
        "ForPreTraining": detector,
        "ForMaskedLM": word_head,
        "ForCausalLM": word_head,
        "ForSequenceClassification": classify_text,
        "ForMultipleChoice": choose,
        "ForTokenClassification": bert.token_classifier,
        "ForQuestionAnswering": bert.answer,
    },
    head_types={"ForPreTraining": HeadType("AutoModelForPreTraining", ScoresOutput, detected)},
)
