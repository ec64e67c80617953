"""DPR (Karpukhin et al., 2020, arXiv:2004.04906): BERTs of questions and of passages, and a reader of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count
from ..heads.head_types import HeadType, pooled
from ..heads.heads import Classifier, Head, Pooler, first
from ..heads.outputs import Output
from ..nn.forward_context import ForwardContext
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert
from .common.architecture import Architecture, MakeHead

PREFIXES = ("question_encoder.bert_model.", "ctx_encoder.bert_model.", "span_predictor.encoder.bert_model.")


@dataclass(kw_only=True)
class DPRConfig(bert.BertConfig):
    model_type = "dpr"

    projection_dim: Count = 0  # 0: the first token's state is the vector


@dataclass
class EncoderOutput(Output):
    """Vectors (batch, width) of texts."""

    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class ReaderOutput(Output):
    """Logits of a span's start and end (passages, length), and of a passage's relevance (passages,)."""

    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    relevance_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Reader(nn.Module):
    """Logits of spans and of whole passages."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spans, self.passage = Linear(width, 2), Classifier(width, 1, pool=first)

    def forward(self, hidden: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        return self.spans(hidden), self.passage(hidden, context)  # (tokens, 2), (passages, 1)


def read_spans(
    raw: tuple[Tensor, Tensor], layout: Layout, labels: Mapping[str, Tensor], config: Config
) -> dict[str, Any]:
    """Return padded logits; those of padding are 0, where the reference's depend on its numbers."""
    start, end = layout.unpack(raw[0]).unbind(-1)
    return {"start_logits": start, "end_logits": end, "relevance_logits": raw[1].squeeze(-1)}


def keys(config: DPRConfig) -> KeyMap:
    rows = {**bert.EMBEDDING_ROWS, **bert.LAYER_ROWS}
    ignored = (r"embeddings\.position_ids$", r"bert_model\.pooler\.")
    return KeyMap(rows, PREFIXES[0], PREFIXES[1:], ignored=ignored, renamed=bert.OLD_NORMS)


def build_reader(config: DPRConfig) -> Stack:
    """Build the reader's BERT, whose tokens all have the first type."""
    layers = [bert.layer(config) for _ in range(config.num_hidden_layers)]
    return Stack(bert.embeddings(config, typed=False), layers)


def encoder(prefix: str) -> MakeHead:
    """Return a maker of the head of an encoder whose tensors begin with `prefix`."""

    def make(config: DPRConfig, backbone: Stack) -> Head:
        if not config.projection_dim:
            return Head(Pooler(nn.Identity()), prefix=prefix)
        dense = Linear(config.hidden_size, config.projection_dim)
        return Head(Pooler(dense), {"dense": f"/{prefix.removesuffix('bert_model.')}encode_proj"}, prefix=prefix)

    return make


def reader(config: DPRConfig, backbone: Stack) -> Head:
    rows = {"spans": "/span_predictor.qa_outputs", "passage.out": "/span_predictor.qa_classifier"}
    return Head(Reader(config.hidden_size), rows, prefix=PREFIXES[2])


VECTOR = HeadType("AutoModel", EncoderOutput, pooled, labels=())
ARCHITECTURE = Architecture(
    "DPR",
    DPRConfig,
    bert.build,
    keys,
    heads={"QuestionEncoder": encoder(PREFIXES[0]), "ContextEncoder": encoder(PREFIXES[1]), "Reader": reader},
    backbone_variants={"Reader": (build_reader, keys)},
    head_types={
        "QuestionEncoder": VECTOR,
        "ContextEncoder": VECTOR,
        "Reader": HeadType("", ReaderOutput, read_spans, labels=()),
    },
)
