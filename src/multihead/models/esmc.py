"""ESM Cambrian (EvolutionaryScale, 2024; biohub/ESMC-300M): Llama's layers with layer norms, for proteins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Classifier, Dense, Head, LanguageModel, Transform, first
from ..nn.layer import Layer, Residual
from ..nn.norms import AllHeadsNorm
from ..nn.stack import Stack
from ..nn.weights import LayerNorm, Linear
from . import llama
from .common.architecture import Architecture
from .common.patterns import rotary_of

EPS = 1e-5


@dataclass(kw_only=True)
class EsmcConfig(llama.LlamaConfig):
    model_type = "esmc"

    vocab_size: Size = 64
    hidden_size: Size = 2560
    intermediate_size: Size = 6912
    num_hidden_layers: Count = 80
    num_attention_heads: Size = 40
    classifier_dropout: float | None = 0.1  # type: ignore[assignment]
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0

    def check(self) -> None:
        super().check()
        if self.num_key_value_heads not in (None, self.num_attention_heads):
            raise UnsupportedConfig("ESMC has as many heads of keys and values as of queries.")


def build(config: EsmcConfig) -> Stack:
    positions, width = rotary_of(config, config.head_width), config.hidden_size
    scale = 1 / math.sqrt(config.num_hidden_layers / 36)  # of what a layer adds, so that deep models are stable

    def norm() -> nn.Module:
        return AllHeadsNorm(LayerNorm(width, EPS, bias=False))

    def layer(_: int) -> Layer:
        attention = llama.attention(config, positions, causal=False, q_norm=norm(), k_norm=norm())
        steps = (attention, llama.feed_forward(config))
        return Layer(*(Residual(step, before=LayerNorm(width, EPS), scale=scale) for step in steps))

    return llama.decoder(config, layer, lambda _: LayerNorm(width, EPS, bias=False))


def keys(config: EsmcConfig) -> KeyMap:
    names = {f"layers.*.attention.step.{n}_norm.norm": f"layers.*.self_attn.{n}_norm" for n in "qk"}
    rows = {**llama.keys(config).rows, **names}
    return KeyMap(rows, "esmc.", ignored=(r"inv_freq$",))


def word_head(config: EsmcConfig, backbone: Stack) -> Head:
    table = Linear(config.hidden_size, config.vocab_size, bias=False)  # never the words' own
    transform = Transform(config.hidden_size, config.hidden_size, "gelu", EPS)
    rows = {"transform.dense": "/lm_head.dense", "transform.norm": "/lm_head.layer_norm"}
    head = LanguageModel(table, transform=transform, bias=config.vocab_size)
    return Head(head, {**rows, "table": "/lm_head.decoder", "bias": "/lm_head.decoder.bias"})


def classify_text(config: EsmcConfig, backbone: Stack) -> Head:
    dropout = config.classifier_dropout or 0.0
    dense = Dense(config.hidden_size, "tanh", dropout=dropout)
    head = Classifier(config.hidden_size, config.num_labels, pool=first, dense=dense, dropout=dropout)
    return Head(head, {"dense.linear": "/classifier.dense", "out": "/classifier.out_proj"})


def classify_tokens(config: EsmcConfig, backbone: Stack) -> Head:
    head = Classifier(config.hidden_size, config.num_labels, dropout=config.classifier_dropout or 0.0)
    return Head(head, {"out": "/score"})


ARCHITECTURE = Architecture(
    "Esmc",
    EsmcConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": classify_text,
        "ForTokenClassification": classify_tokens,
    },
    untied_configs=lambda config: (),
)
