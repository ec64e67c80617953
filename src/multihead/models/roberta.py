"""RoBERTa (Liu et al., 2019, arXiv:1907.11692): BERT whose positions start behind the padding's. Its relatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Size
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Transform, first
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert


@dataclass(kw_only=True)
class RobertaConfig(bert.BertConfig):
    model_type = "roberta"

    vocab_size: Size = 50265
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


@dataclass(kw_only=True)
class XLMRobertaConfig(RobertaConfig):
    model_type = "xlm-roberta"

    vocab_size: Size = 30522


@dataclass(kw_only=True)
class CamembertConfig(XLMRobertaConfig):
    model_type = "camembert"


@dataclass(kw_only=True)
class Data2VecTextConfig(XLMRobertaConfig):
    model_type = "data2vec-text"


# Names in files of Jina's own code (xlm-roberta-flash-implementation)
OWN_CODE_TENSORS = (
    (r"\bemb_ln\.", "embeddings.LayerNorm."),
    (r"\bencoder\.layers\.(\d+)\.mixer\.out_proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"\bencoder\.layers\.(\d+)\.norm1\.", r"encoder.layer.\1.attention.output.LayerNorm."),
    (r"\bencoder\.layers\.(\d+)\.norm2\.", r"encoder.layer.\1.output.LayerNorm."),
    (r"\bencoder\.layers\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"\bencoder\.layers\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
)
OWN_CODE_QKV = tuple(rf"encoder.layer.\1.attention.self.{name}." for name in ("query", "key", "value"))
OWN_CODE_FUSED = ((r"\bencoder\.layers\.(\d+)\.mixer\.Wqkv\.", OWN_CODE_QKV),)


def build(config: RobertaConfig) -> Stack:
    return bert.build(config, padding=config.pad_token_id or 0)


def keys(config: RobertaConfig, prefix: str = "roberta.") -> KeyMap:
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "lm_head"))
    rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS}
    old: dict[str, Any] = {"renamed": (*bert.OLD_NORMS, *OWN_CODE_TENSORS), "split_fused": OWN_CODE_FUSED}
    return KeyMap(rows, prefix, ignored=ignored, aliases=bert.aliases(config, "lm_head"), **old)


def word_head(config: Any, backbone: Stack) -> Head:
    """Build the MLM head of RoBERTa and MPNet: dense, gelu, norm and output embeddings with a bias."""
    width, tied = config.hidden_size, config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(width, config.vocab_size, bias=False)
    transform = Transform(width, width, "gelu", config.layer_norm_eps)
    rows: Rows = {"transform.dense": "/lm_head.dense", "transform.norm": "/lm_head.layer_norm"}
    own: Rows = {"bias": "/lm_head.bias"} if tied else {"table": "/lm_head.decoder", "bias": "/lm_head.decoder.bias"}
    return Head(LanguageModel(table, transform=transform, bias=config.vocab_size), {**rows, **own})


def classify_text(config: Any, backbone: Stack) -> Head:
    """Build a classifier of the first token with a dense layer of its own, without the pooler."""
    dense = Dense(config.hidden_size, "tanh")
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=bert.dropout_of(config))
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


HEADS = {
    **{
        end: bert.ARCHITECTURE.heads[end]
        for end in ("Model", "ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering")
    },
    "ForMaskedLM": word_head,
    "ForCausalLM": word_head,
    "ForSequenceClassification": classify_text,
}
ARCHITECTURE = bert.ARCHITECTURE.derive("Roberta", RobertaConfig, build, keys=keys, heads=HEADS)
XLM_ROBERTA = replace(ARCHITECTURE, name="XLMRoberta", config=XLMRobertaConfig)
CAMEMBERT = replace(ARCHITECTURE, name="Camembert", config=CamembertConfig)
DATA2VEC_TEXT = replace(
    ARCHITECTURE,
    name="Data2VecText",
    config=Data2VecTextConfig,
    keys=lambda config: keys(config, "data2vec_text."),
)
