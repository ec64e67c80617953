"""EuroBERT (Boizard et al., 2025, arXiv:2503.05500): Llama's layers, whose tokens see all of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..config import Count, Size
from ..heads.heads import Classifier, Dense, Head, LanguageModel, average, first
from ..nn.forward_context import ForwardContext
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import llama
from .common.architecture import Architecture
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class EuroBertConfig(llama.LlamaConfig):
    model_type = "eurobert"
    inert: ClassVar[tuple[str, ...]] = ("hidden_dropout", "bos_token", "eos_token", "mask_token", "pad_token")

    vocab_size: Size = 128256
    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    max_position_embeddings: Size = 8192
    rms_norm_eps: float = 1e-5
    classifier_pooling: Literal["bos", "mean", "late"] = "late"
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    pad_token_id: int | None = 128001

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Rename the entry of this family's first files."""
        own = {"classifier_pooling": entries["clf_pooling"]} if "clf_pooling" in entries else {}
        return super().normalized({**own, **{k: v for k, v in entries.items() if k != "clf_pooling"}})


class LateClassifier(Classifier):
    """Mean of the logits of a sequence's tokens, (sequences, labels)."""

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        return average(self.out(self.dense(hidden)), context)


def build(config: EuroBertConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(_: int) -> nn.Module:
        return llama.layer(config, llama.attention(config, positions, causal=False), llama.feed_forward(config))

    return llama.decoder(config, layer)


def word_head(config: EuroBertConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    rows = {} if tied else {"table": "/lm_head"}
    rows = {**rows, "bias": "/lm_head.bias"} if config.mlp_bias else rows
    return Head(LanguageModel(table, bias=config.vocab_size if config.mlp_bias else None), rows)


def classify_text(config: EuroBertConfig, backbone: Stack) -> Head:
    pool = config.classifier_pooling
    options: dict[str, Any] = {} if pool == "late" else {"pool": {"bos": first, "mean": average}[pool]}
    kind = LateClassifier if pool == "late" else Classifier
    head = kind(config.hidden_size, config.num_labels, dense=Dense(config.hidden_size, "gelu"), **options)
    return Head(head, {"dense.linear": "/dense", "out": "/classifier"})


def classify_tokens(config: EuroBertConfig, backbone: Stack) -> Head:
    return Head(Classifier(config.hidden_size, config.num_labels), {"out": "/classifier"})


ARCHITECTURE = Architecture(
    "EuroBert",
    EuroBertConfig,
    build,
    llama.keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": classify_text,
        "ForTokenClassification": classify_tokens,
    },
)
