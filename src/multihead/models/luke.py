"""LUKE (Yamada et al., 2020, arXiv:2010.01057): RoBERTa whose texts also have entities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Size
from ..heads import losses
from ..heads.head_types import HeadType, pack_labels
from ..heads.heads import Dense, Head, LanguageModel, Pooler, Transform, attach_unused
from ..heads.outputs import Output, ScoresOutput
from ..nn.attention.entities import IDS, MASK, PLACES, STATES, TYPES, EntityAttention, EntityEmbeddings, EntityStack
from ..nn.attention.entities import entity_states as states_of
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout
from ..nn.weights import Dropout, LayerNorm, Linear
from . import bert
from .common.architecture import Architecture, MakeHead

STARTS, ENDS = "entity_start_positions", "entity_end_positions"
KINDS = {"first": 1, "pair": 2, "span": 3}  # widths that a classifier of entities reads


@dataclass(kw_only=True)
class LukeConfig(bert.BertConfig):
    model_type = "luke"
    inert = ("bert_model_name", "cls_entity_prediction")

    vocab_size: Size = 50267
    entity_vocab_size: Size = 500000
    entity_emb_size: Size = 256
    use_entity_aware_attention: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


@dataclass
class EntityOutput(Output):
    """Last states of words (batch, length, width) and of entities (batch, entities, width), and the pooled first."""

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    entity_last_hidden_state: Tensor | None = None


@dataclass
class MaskedEntitiesOutput(Output):
    """Logits of words and of entities, with both losses and their sum."""

    loss: Tensor | None = None
    mlm_loss: Tensor | None = None
    mep_loss: Tensor | None = None
    logits: Tensor | None = None
    entity_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class StatesHead(nn.Module):
    """The pooled first state, with the states of words and of entities."""

    def __init__(self, pooler: Pooler) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.pooler(hidden, context), hidden, context.cached(STATES, lambda: None)


class EntityScores(LanguageModel):
    """Logits of the entity vocabulary."""

    scores_words = False


class MaskedHead(nn.Module):
    """Logits of words and of entities."""

    def __init__(self, words: LanguageModel, entities: LanguageModel) -> None:
        super().__init__()
        self.words, self.entities = words, entities

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor | None]:
        states: Tensor | None = context.cached(STATES, lambda: None)
        logits = None if states is None else self.entities(states.flatten(0, 1), context).unflatten(0, states.shape[:2])
        return self.words(hidden, context), logits


class EntityClassifier(nn.Module):
    """Logits of labels of the first entity, of the first two, or of every entity with the words at its ends."""

    def __init__(self, width: int, labels: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.kind, self.dropout = kind, Dropout(dropout)
        self.out = Linear(KINDS[kind] * width, labels, bias=kind != "pair")

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        states = states_of(context)  # (texts, entities, width)
        if self.kind == "span":
            ends = [hidden[context.extra_inputs[name]] for name in (STARTS, ENDS)]
            return self.out(self.dropout(torch.cat([*ends, states], -1)))
        return self.out(self.dropout(states[:, : KINDS[self.kind]].flatten(1)))


def build(config: LukeConfig) -> EntityStack:
    width, pad = config.hidden_size, config.pad_token_id or 0

    def attention() -> EntityAttention:
        dropout = config.attention_probs_dropout_prob
        return EntityAttention(
            width, config.num_attention_heads, aware=config.use_entity_aware_attention, dropout=dropout
        )

    entities = EntityEmbeddings(
        config.entity_vocab_size,
        config.entity_emb_size,
        width,
        positions=config.max_position_embeddings,
        types=config.type_vocab_size,
        norm=LayerNorm(width, config.layer_norm_eps),
        dropout=config.hidden_dropout_prob,
    )
    layers = [bert.layer(config, mixer=attention()) for _ in range(config.num_hidden_layers)]
    return EntityStack(bert.embeddings(config, padding=pad), layers, entities)


def keys(config: LukeConfig) -> KeyMap:
    names = {
        "token": "entity_embeddings",
        "dense": "entity_embedding_dense",
        "position": "position_embeddings",
        "segment": "token_type_embeddings",
        "norm": "LayerNorm",
    }
    rows = {
        **bert.EMBEDDING_ROWS,
        **{f"entities.{ours}": f"entity_embeddings.{theirs}" for ours, theirs in names.items()},
        **bert.LAYER_ROWS,
        **{f"layers.*.attention.step.{n}": f"encoder.layer.*.attention.self.{n}_query" for n in ("w2e", "e2w", "e2e")},
    }
    copies = (r"^entity_predictions\.decoder\.weight$",) if config.tie_word_embeddings else ()
    aliases = (("lm_head.decoder.bias", "lm_head.bias"),)
    return KeyMap(rows, "luke.", ignored=(r"embeddings\.position_ids$", *copies), aliases=aliases)


def hidden_states(config: LukeConfig, backbone: EntityStack) -> Head:
    return Head(StatesHead(Pooler(Dense(config.hidden_size, "tanh"))), {"pooler.dense.linear": "pooler.dense"})


def mask_heads(config: LukeConfig, backbone: EntityStack) -> Head:
    width, narrow, eps = config.hidden_size, config.entity_emb_size, config.layer_norm_eps
    words = LanguageModel(
        Linear(width, config.vocab_size, bias=False),
        transform=Transform(width, width, "gelu", eps),
        bias=config.vocab_size,
    )
    tied = config.tie_word_embeddings
    table: nn.Module = backbone.entities.token if tied else Linear(narrow, config.entity_vocab_size, bias=False)
    entities = EntityScores(
        table, transform=Transform(width, narrow, config.hidden_act, eps), bias=config.entity_vocab_size
    )
    rows = {
        "words.transform.dense": "/lm_head.dense",
        "words.transform.norm": "/lm_head.layer_norm",
        "words.table": "/lm_head.decoder",
        "words.bias": "/lm_head.decoder.bias",
        "entities.transform.dense": "/entity_predictions.transform.dense",
        "entities.transform.norm": "/entity_predictions.transform.LayerNorm",
        "entities.bias": "/entity_predictions.bias",
    }
    return Head(
        MaskedHead(words, entities), rows if tied else {**rows, "entities.table": "/entity_predictions.decoder"}
    )


def entity_classifier(kind: str) -> MakeHead:
    """Return a maker of a classifier of entities."""

    def make(config: LukeConfig, backbone: EntityStack) -> Head:
        head = EntityClassifier(config.hidden_size, config.num_labels, kind, config.hidden_dropout_prob)
        return attach_unused(Head(head, {"out": "/classifier"}), *unused_pooler(config))

    return make


def unused_pooler(config: LukeConfig) -> tuple[nn.Module, dict[str, str]]:
    dense, _ = bert.pooling(config)
    return dense, {"linear": "pooler.dense"}


def show_states(raw: Any, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    pooled, hidden, entities = raw
    shown = {"last_hidden_state": layout.unpack(hidden), "pooler_output": pooled}
    return {**shown, "entity_last_hidden_state": entities}


def mask_losses(raw: Any, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    scores, entities = raw
    known, named = labels.get("labels"), labels.get("entity_labels")
    words = None if known is None else losses.words(scores, pack_labels(layout, known))
    others = None if named is None or entities is None else losses.words(entities.flatten(0, 1), named.flatten())
    found = [loss for loss in (words, others) if loss is not None]
    logits = {"logits": layout.unpack(scores), "entity_logits": entities}
    return {"loss": sum(found) if found else None, "mlm_loss": words, "mep_loss": others, **logits}


def entity_loss(raw: Tensor, layout: Layout, labels: Mapping[str, Tensor], config: Config) -> dict[str, Any]:
    """Return logits of entities, with the cross-entropy of one label each, or of several yes-or-no ones."""
    loss, known = None, labels.get("labels")
    if known is not None and known.ndim == raw.ndim - 1:
        loss = losses.words(raw.flatten(0, -2), known.flatten())
    elif known is not None:
        loss = F.binary_cross_entropy_with_logits(raw.flatten(), known.flatten().to(raw.dtype))
    return {"loss": loss, "logits": raw}


KIND = HeadType("", ScoresOutput, entity_loss)
PACKS: dict[str, Any] = {name: lambda given, layout: given.long() for name in (IDS, MASK, TYPES, PLACES)}
USUAL = ("ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering")
ARCHITECTURE = Architecture(
    "Luke",
    LukeConfig,
    build,
    keys,
    heads={
        "Model": hidden_states,
        "ForMaskedLM": lambda config, backbone: attach_unused(mask_heads(config, backbone), *unused_pooler(config)),
        "ForEntityClassification": entity_classifier("first"),
        "ForEntityPairClassification": entity_classifier("pair"),
        "ForEntitySpanClassification": entity_classifier("span"),
        **{end: bert.ARCHITECTURE.heads[end] for end in USUAL},
    },
    head_types={
        "Model": HeadType("AutoModel", EntityOutput, show_states, labels=()),
        "ForMaskedLM": HeadType(
            "AutoModelForMaskedLM", MaskedEntitiesOutput, mask_losses, labels=("labels", "entity_labels")
        ),
        **{f"ForEntity{kind}Classification": KIND for kind in ("", "Pair", "Span")},
    },
    inputs={
        **PACKS,
        **{name: lambda given, layout: layout.rows_at(given) for name in (STARTS, ENDS)},
    },
)
