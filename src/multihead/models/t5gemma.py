"""T5Gemma (Zhang et al., 2025, arXiv:2504.06225): Gemma 2's layers as an encoder and a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Config, Size
from ..errors import InvalidInput, UnsupportedConfig
from ..heads.decoder_inputs import after_token
from ..heads.heads import Classifier, Head, LanguageModel, Pool, every, last_word
from ..kernels.ragged import SequenceLayout
from ..nn.attention.attention import CrossAttention
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Dropout, Linear
from . import gemma2, llama
from .common.architecture import Architecture
from .common.patterns import every as every_layer
from .common.patterns import layer_kinds, rotary_of
from .gemma import norm


@dataclass(kw_only=True)
class T5GemmaModuleConfig(gemma2.Gemma2Config):
    """The config of the encoder or the decoder."""

    model_type = "t5_gemma_module"

    is_decoder: bool = False
    dropout_rate: float = 0.0
    cross_attention_hidden_size: Size | None = None


@dataclass(kw_only=True)
class T5GemmaConfig(Config):
    model_type = "t5gemma"

    encoder: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    is_encoder_decoder: bool = True  # its encoder alone is saved with false
    dropout_rate: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout_rate: float = 0.0
    initializer_range: float = 0.02
    vocab_size: Size = 256000
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Take special tokens from the decoder; its sequences begin with its own first token."""
        side = entries.get("decoder") or {}
        known = {name: side[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id") if name in side}
        return {"decoder_start_token_id": side.get("bos_token_id", 2), **known, **entries}

    def check(self) -> None:
        for side in (self.source, self.target):  # read, and so checked
            layer_kinds(side, every_layer(2, side.num_hidden_layers))

    @cached_property
    def source(self) -> T5GemmaModuleConfig:
        return self._side(self.encoder)

    @cached_property
    def target(self) -> T5GemmaModuleConfig:
        return self._side(self.decoder)

    def _side(self, entries: dict[str, Any]) -> T5GemmaModuleConfig:
        shared = {"dropout_rate": self.dropout_rate, "attention_dropout": self.attention_dropout}
        return T5GemmaModuleConfig.read({**entries, **shared})

    @property
    def hidden_size(self) -> int:
        return self.target.hidden_size


def step(config: Any, module: nn.Module) -> Residual:
    return Residual(module, before=norm(config), out=norm(config), dropout=config.dropout_rate)


def side(config: T5GemmaModuleConfig, source: int | None = None) -> Stack:
    """Build an encoder, or a decoder whose cross-attention reads states of width `source`."""
    positions, window = rotary_of(config, config.head_width), config.sliding_window
    if source is None and window is not None:
        window += 1  # an encoder's is how far a token sees, a decoder's how many it sees

    def cross() -> CrossAttention:
        heads = config.num_key_value_heads or config.num_attention_heads
        inner = heads * config.head_width
        return CrossAttention(
            config.hidden_size,
            config.num_attention_heads,
            head_width=config.head_width,
            key_heads=heads,
            bias=config.attention_bias,
            projections={n: Linear(source or 0, inner, bias=config.attention_bias) for n in "kv"},
            scale=config.query_pre_attn_scalar**-0.5,
            softcap=config.attn_logit_softcapping,
            dropout=config.attention_dropout,
        )

    def layer(kind: str) -> Layer:
        own = step(
            config, gemma2.attention(config, kind, positions=positions, causal=source is not None, window=window)
        )
        ffn = step(config, llama.feed_forward(config))
        return Layer(own, ffn) if source is None else CrossLayer(own, step(config, cross()), ffn)

    kinds = layer_kinds(config, every_layer(2, config.num_hidden_layers))
    words: dict[str, Any] = {"scale": config.hidden_size**0.5, "rounded": True, "rescales": True}
    stack = llama.decoder(config, lambda i: layer(kinds[i]), norm, dropout=config.dropout_rate, **words)
    stack.out = Dropout(config.dropout_rate)
    return stack


def build(config: T5GemmaConfig) -> EncoderDecoder:
    return EncoderDecoder(side(config.source), side(config.target, config.source.hidden_size))


def build_encoder(config: T5GemmaConfig) -> Stack:
    return side(config.source)


def side_rows(ours: str, theirs: str) -> Rows:
    rows = {f"{ours}embed.token": f"{theirs}embed_tokens", f"{ours}norm": f"{theirs}norm"}
    for step, module, name in (("attention", "self_attn", "self_attn"), ("cross", "cross_attn", "cross_attn")):
        for our, their in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "o_proj")):
            rows[f"{ours}layers.*.{step}.step.{our}"] = f"{theirs}layers.*.{module}.{their}"
        rows[f"{ours}layers.*.{step}.before"] = f"{theirs}layers.*.pre_{name}_layernorm"
        rows[f"{ours}layers.*.{step}.out"] = f"{theirs}layers.*.post_{name}_layernorm"
    for name in ("gate", "up", "down"):
        rows[f"{ours}layers.*.ffn.step.{name}"] = f"{theirs}layers.*.mlp.{name}_proj"
    rows[f"{ours}layers.*.ffn.before"] = f"{theirs}layers.*.pre_feedforward_layernorm"
    rows[f"{ours}layers.*.ffn.out"] = f"{theirs}layers.*.post_feedforward_layernorm"
    return rows


def keys(config: T5GemmaConfig) -> KeyMap:
    copies = (r"^lm_head\.out_proj\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap({**side_rows("encoder.", "encoder."), **side_rows("decoder.", "decoder.")}, "model.", ignored=copies)


def encoder_keys(config: T5GemmaConfig) -> KeyMap:
    ignored = (r"^(model\.)?decoder\.", r"^lm_head\.")
    return KeyMap(side_rows("", "encoder."), prefixes=("model.",), ignored=ignored)


def generate(config: T5GemmaConfig, backbone: EncoderDecoder) -> Head:
    softcap = config.target.final_logit_softcapping
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token, softcap=softcap))
    table = Linear(config.target.hidden_size, config.target.vocab_size, bias=False)
    return Head(LanguageModel(table, softcap=softcap), {"table": "/lm_head.out_proj"})


def classifier(config: T5GemmaConfig, backbone: EncoderDecoder, pool: Pool) -> Head:
    """Build a classifier of the decoder's states; the source is the decoder's input too."""
    if not config.is_encoder_decoder:
        raise UnsupportedConfig("A classifier over the encoder alone (is_encoder_decoder: false) is not built here.")
    head = Classifier(config.hidden_size, config.num_labels, pool=pool, dropout=config.classifier_dropout_rate)
    return Head(head, {"out": "/score.out_proj"})


def shift_right(ids: Tensor, runs: SequenceLayout, config: Any) -> Tensor:
    first = config.target.bos_token_id
    if first is None:
        raise InvalidInput("The decoder's config names no bos_token_id to begin a target with.")
    return after_token(ids, runs, first)


ARCHITECTURE = Architecture(
    "T5Gemma",
    T5GemmaConfig,
    build,
    keys,
    heads={
        "Model": None,
        "EncoderModel": None,
        "ForConditionalGeneration": generate,
        "ForSequenceClassification": lambda config, backbone: classifier(config, backbone, last_word(config)),
        "ForTokenClassification": lambda config, backbone: classifier(config, backbone, every),
    },
    backbone_variants={"EncoderModel": (build_encoder, encoder_keys)},
    source_as_target=("ForSequenceClassification", "ForTokenClassification"),
    shift_right=shift_right,
)
