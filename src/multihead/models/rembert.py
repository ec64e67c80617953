"""RemBERT (Chung et al., 2020, arXiv:2010.12821): BERT with a narrow table of words and a wide one for scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..heads.heads import Head, LanguageModel, Transform
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert


@dataclass(kw_only=True)
class RemBertConfig(Config):
    model_type = "rembert"
    inert = ("embedding_size",)

    vocab_size: Size = 250300
    hidden_size: Size = 1152
    num_hidden_layers: Count = 32
    num_attention_heads: Size = 18
    input_embedding_size: Size = 256
    output_embedding_size: Size = 1664
    intermediate_size: Size = 4608
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    max_position_embeddings: Size = 512
    type_vocab_size: Size = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: Literal[False] = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 312
    eos_token_id: int | list[int] | None = 313

    @property
    def classifier_dropout(self) -> float:
        return self.classifier_dropout_prob


def build(config: RemBertConfig) -> Stack:
    narrow = config.input_embedding_size
    embed = bert.embeddings(config, narrow, project=Linear(narrow, config.hidden_size))
    return Stack(embed, [bert.layer(config) for _ in range(config.num_hidden_layers)])


def keys(config: RemBertConfig) -> KeyMap:
    rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS, "embed.project": "encoder.embedding_hidden_mapping_in"}
    return KeyMap(rows, "rembert.", ignored=(r"embeddings\.position_ids$",), renamed=bert.OLD_NORMS)


def word_head(config: RemBertConfig, backbone: Stack) -> Head:
    wide = config.output_embedding_size
    transform = Transform(config.hidden_size, wide, config.hidden_act, config.layer_norm_eps)
    head = LanguageModel(Linear(wide, config.vocab_size, bias=False), transform=transform, bias=config.vocab_size)
    names = {"transform.dense": "dense", "transform.norm": "LayerNorm", "table": "decoder", "bias": "decoder.bias"}
    return Head(head, {ours: f"/cls.predictions.{theirs}" for ours, theirs in names.items()})


ENDS = ("Model", "ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering")
HEADS = {end: bert.ARCHITECTURE.heads[end] for end in ENDS}
ARCHITECTURE = bert.ARCHITECTURE.derive(
    "RemBert", RemBertConfig, build, keys=keys, heads={**HEADS, "ForMaskedLM": word_head, "ForCausalLM": word_head}
)
