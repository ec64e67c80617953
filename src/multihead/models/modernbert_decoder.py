"""Decoders of Ettin (Weller et al., 2025, arXiv:2507.11412): ModernBERT that reads from left to right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Head, LanguageModel, last_word
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import modernbert
from .common.architecture import Architecture

PARENT = modernbert.ModernBertConfig


@dataclass(kw_only=True)
class ModernBertDecoderConfig(modernbert.ModernBertConfig):
    model_type = "modernbert-decoder"
    inert: ClassVar[tuple[str, ...]] = (*PARENT.inert, "causal_mask")

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read `sliding_window`, half of `local_attention`, which it goes before."""
        entries = super().normalized(entries)
        half = entries.pop("sliding_window", None)
        return {**entries, "local_attention": 2 * half} if isinstance(half, int) and half > 0 else entries

    def check(self) -> None:
        if self.local_attention < 2:
            raise UnsupportedConfig(f"local_attention is {self.local_attention}; a window is half of it.")


def build(config: ModernBertDecoderConfig) -> Stack:
    """Build ModernBERT's layers with a causal mask; a window is of tokens back, the own one counted."""
    stack = modernbert.build(config)
    for layer in stack.layers:
        attention: Any = layer.attention.step  # type: ignore[union-attr]
        attention.causal = True
        attention.window = None if attention.window is None else config.local_attention // 2
    return stack


def keys(config: ModernBertDecoderConfig) -> KeyMap:
    table = modernbert.keys(config)
    apart = {f"layers.*.attention.step.{name}": f"layers.*.attn.{name}_proj" for name in ("q", "k", "v")}
    return replace(table, rows={**table.rows, **apart})


def generate(config: ModernBertDecoderConfig, backbone: Stack) -> Head:
    tied = config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(config.hidden_size, config.vocab_size, bias=False)
    bias = config.vocab_size if config.decoder_bias else None
    rows = {"transform.dense": "/lm_head.dense", "transform.norm": "/lm_head.norm", "bias": "/decoder.bias"}
    rows = rows if tied else {**rows, "table": "/decoder"}
    return Head(LanguageModel(table, transform=modernbert.transform(config), bias=bias), rows)


def classify_text(config: ModernBertDecoderConfig, backbone: Stack) -> Head:
    head = Classifier(
        config.hidden_size,
        config.num_labels,
        pool=last_word(config),
        dense=modernbert.transform(config),
        dropout=config.classifier_dropout,
        bias=config.classifier_bias,
    )
    return Head(head, {"dense.dense": "/head.dense", "dense.norm": "/head.norm", "out": "/classifier"})


HEADS = {"Model": None, "ForCausalLM": generate, "ForSequenceClassification": classify_text}
ARCHITECTURE = Architecture("ModernBertDecoder", ModernBertDecoderConfig, build, keys, heads=HEADS)
