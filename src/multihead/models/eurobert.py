"""EuroBERT (Boizard et al., 2025, arXiv:2503.05500) and UltraBERT: Llama's layers, whose tokens see all of a text.

In most layers of UltraBERT (dmis-lab/UltraBERT-150M) they see what is near.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Pool, average, first
from ..heads.heads import every as all_
from ..nn.activations import activation
from ..nn.forward_context import ForwardContext
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import llama
from .common.architecture import Architecture
from .common.patterns import FULL, SLIDING, every, layer_kinds, layered_rope_entries, rotary_by_layer, rotary_of

BASES = {SLIDING: 10000.0, FULL: 2560000.0}  # UltraBERT's rotary bases


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


@dataclass(kw_only=True)
class UltrabertConfig(llama.LlamaConfig):
    model_type = "ultrabert"

    max_position_embeddings: Size = 32768
    sliding_window: Size = 128  # tokens on either side
    layer_types: list[str] | None = None
    prediction_head_size: Size = 768
    classifier_dropout: float = 0.0
    classifier_pooling: Literal["cls", "mean"] = "cls"
    pad_token_id: int | None = 0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read windows and rotary bases that older files name for each layer."""
        entries = dict(entries)
        windows = entries.pop("attention_windows", None)
        if windows is not None:
            entries["sliding_window"] = next((window for window in windows if window), 128)
            kinds = [SLIDING if window else FULL for window in windows]
            entries["layer_types"] = entries.get("layer_types") or kinds
        layers = int(entries.get("num_hidden_layers", 32))
        kinds = entries.get("layer_types") or every(3, layers)
        bases = entries.pop("rope_theta", None)
        if isinstance(bases, list) and not entries.get("rope_parameters"):
            pairs = zip(kinds, bases, strict=False)
            entries["rope_parameters"] = {kind: {"rope_type": "default", "rope_theta": base} for kind, base in pairs}
        return layered_rope_entries(entries, BASES)

    @property
    def kinds(self) -> list[str]:
        return layer_kinds(self, every(3, self.num_hidden_layers))


class LateClassifier(Classifier):
    """Mean of the logits of a sequence's tokens, (sequences, labels)."""

    def forward(self, hidden: Tensor, context: ForwardContext) -> Tensor:
        return average(self.out(self.dense(hidden)), context)


def build(config: EuroBertConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(_: int) -> nn.Module:
        return llama.layer(config, llama.attention(config, positions, causal=False), llama.feed_forward(config))

    return llama.decoder(config, layer)


def build_ultrabert(config: UltrabertConfig) -> Stack:
    positions, kinds = rotary_by_layer(config, config.head_width), config.kinds

    def layer(i: int) -> nn.Module:
        window = config.sliding_window + 1 if kinds[i] == SLIDING else None
        attention = llama.attention(config, positions[kinds[i]], causal=False, window=window)
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


def ultrabert_keys(config: UltrabertConfig) -> KeyMap:
    copies = (r"^head\.decoder\.weight$",) if config.tie_word_embeddings else ()
    renamed = ((r"^cls\.", "head.decoder."),)
    return replace(llama.keys(config), prefixes=("ultrabert.",), renamed=renamed, ignored=copies)


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


class TwoLayers(nn.Module):
    """act(second(act(first(x)))), between a backbone and its output embeddings."""

    def __init__(self, width: int, inner: int, act: str) -> None:
        super().__init__()
        self.first, self.second = Linear(width, inner, bias=False), Linear(inner, width, bias=False)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.act(self.first(x))))  # (tokens, width)


def ultrabert_words(config: UltrabertConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    transform = TwoLayers(config.hidden_size, config.prediction_head_size, "gelu_pytorch_tanh")
    rows = {"transform.first": "/head.linear1", "transform.second": "/head.linear2"}
    return Head(LanguageModel(table, transform=transform), rows if tied else {**rows, "table": "/head.decoder"})


def ultrabert_classifier(config: UltrabertConfig, pool: Pool, labels: int, key: str = "/classifier") -> Head:
    head = Classifier(config.hidden_size, labels, pool=pool, dropout=config.classifier_dropout)
    return Head(head, {"out": key})


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
ULTRABERT = Architecture(
    "Ultrabert",
    UltrabertConfig,
    build_ultrabert,
    ultrabert_keys,
    heads={
        "Model": None,
        "ForMaskedLM": ultrabert_words,
        "ForSequenceClassification": lambda config, backbone: ultrabert_classifier(
            config, {"cls": first, "mean": average}[config.classifier_pooling], config.num_labels
        ),
        "ForTokenClassification": lambda config, backbone: ultrabert_classifier(config, all_, config.num_labels),
        "ForQuestionAnswering": lambda config, backbone: ultrabert_classifier(config, all_, 2, "/qa_outputs"),
    },
)
