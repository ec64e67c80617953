"""RoFormer (Su et al., 2021, arXiv:2104.09864): BERT with rotary positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Interleaved
from ..config import Size
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Transform, first, summary
from ..nn.embeddings import sinusoids
from ..nn.positions import rotary
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert, electra


@dataclass(kw_only=True)
class RoFormerConfig(bert.BertConfig):
    model_type = "roformer"

    vocab_size: Size = 50000
    embedding_size: Size | None = None
    max_position_embeddings: Size = 1536
    rotary_value: Literal[False] = False

    @property
    def narrow(self) -> int:
        return self.hidden_size if self.embedding_size is None else self.embedding_size


def build(config: RoFormerConfig) -> Stack:
    width, narrow = config.hidden_size, config.narrow
    limit = config.max_position_embeddings
    positions = rotary(width // config.num_attention_heads, {"rope_theta": 10000.0}, limit)
    project = None if narrow == width else Linear(narrow, width)
    embed = bert.embeddings(config, narrow, order=False, project=project)
    return Stack(embed, [bert.layer(config, positions=positions) for _ in range(config.num_hidden_layers)])


def keys(config: RoFormerConfig) -> KeyMap:
    """Return the key map; rotated channels are interleaved in the file, and its table of sines is computed here."""
    rows: Rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS, "embed.project": "embeddings_project"}
    stem, heads = "encoder.layer.*.attention.self", config.num_attention_heads
    turned = {f"layers.*.attention.step.{n[0]}": Interleaved(f"{stem}.{n}", heads) for n in ("query", "key")}
    turns = r"encoder\.embed_positions\.weight$"
    ignored = (turns, *bert.copies(config, "cls.predictions"))
    aliases = bert.aliases(config, "cls.predictions")
    table = KeyMap({**rows, **turned}, "roformer.", ignored=ignored, renamed=bert.OLD_NORMS, aliases=aliases)
    return replace(table, computed=((turns, sinusoids),))


def word_head(config: RoFormerConfig, backbone: Stack) -> Head:
    transform = Transform(config.hidden_size, config.narrow, config.hidden_act, config.layer_norm_eps)
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.narrow, config.vocab_size, bias=False)
    return Head(LanguageModel(table, transform=transform, bias=config.vocab_size), bert.word_rows(config))


def classify_text(config: RoFormerConfig, backbone: Stack) -> Head:
    dense = Dense(config.hidden_size, config.hidden_act, dropout=config.hidden_dropout_prob)
    head = Classifier(
        config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=config.hidden_dropout_prob
    )
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def choose(config: Any, backbone: Stack) -> Head:
    rows = {"pool.linear": "/sequence_summary.summary", "out": "/classifier"}
    return Head(Classifier(config.hidden_size, 1, pool=summary(config)), rows)


ARCHITECTURE = replace(
    electra.ARCHITECTURE,
    name="RoFormer",
    config=RoFormerConfig,
    build=build,
    keys=keys,
    head_types={},
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForCausalLM": word_head,
        "ForSequenceClassification": classify_text,
        "ForMultipleChoice": choose,
        "ForTokenClassification": bert.token_classifier,
        "ForQuestionAnswering": bert.answer,
    },
)
