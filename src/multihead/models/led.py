"""LED (Beltagy et al., 2020, arXiv:2004.05150): BART whose encoder reads long texts as Longformer does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.sparse import GLOBAL, GlobalLocalAttention
from ..nn.embeddings import LearnedPositions
from ..nn.layer import Layer
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Embedding
from . import bart
from .bart import Style


@dataclass(kw_only=True)
class LEDConfig(bart.BartConfig):
    model_type = "led"
    aliases: ClassVar = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    max_encoder_position_embeddings: Size = 16384
    max_decoder_position_embeddings: Size = 1024
    num_labels: Size = 2
    attention_window: int | list[int] = 512
    forced_eos_token_id: int | list[int] | None = None

    def check(self) -> None:
        if len(self.windows) != self.encoder_layers or any(w < 2 or w % 2 for w in self.windows):
            raise UnsupportedConfig(
                f"attention_window must be an even number above 0, or one for each of {self.encoder_layers} layers; "
                f"it is {self.attention_window}."
            )

    @property
    def windows(self) -> list[int]:
        one = self.attention_window
        return [one] * self.encoder_layers if isinstance(one, int) else one


UNSCALED: dict[str, Any] = {"source_scale": None, "target_scale": None}  # whatever `scale_embedding` says
SOURCE = Style(lambda config: LearnedPositions(config.max_encoder_position_embeddings, config.d_model), **UNSCALED)
TARGET = Style(lambda config: LearnedPositions(config.max_decoder_position_embeddings, config.d_model), **UNSCALED)


def encoder(config: LEDConfig, token: nn.Embedding) -> Stack:
    def layer(window: int) -> Layer:
        heads, dropout = config.encoder_attention_heads, config.attention_dropout
        attention = GlobalLocalAttention(config.d_model, heads, window=window, dropout=dropout)
        return Layer(SOURCE.step(config, attention), bart.feed_forward(config, SOURCE, config.encoder_ffn_dim))

    embed = SOURCE.embeddings(config, token, SOURCE.source_norm, None)
    return Stack(embed, [layer(window) for window in config.windows], drop=config.encoder_layerdrop)


def build(config: LEDConfig) -> EncoderDecoder:
    source = Embedding(config.vocab_size, config.d_model)
    target = source if config.shares_words else Embedding(config.vocab_size, config.d_model)
    return EncoderDecoder(encoder(config, source), bart.decoder(config, TARGET, target))


def keys(config: LEDConfig) -> KeyMap:
    table = bart.keys(config, prefix="led.")
    ours, theirs = "encoder.layers.*.attention.step", "encoder.layers.*.self_attn"
    names = {"q": "query", "k": "key", "v": "value"}
    own = {f"{ours}.{o}": f"{theirs}.longformer_self_attn.{t}" for o, t in names.items()}
    own |= {f"{ours}.{o}_global": f"{theirs}.longformer_self_attn.{t}_global" for o, t in names.items()}
    ignored = tuple(pattern for pattern in table.ignored if "embed_positions" not in pattern)
    rows = {**table.rows, **own, f"{ours}.out": f"{theirs}.output"}
    return replace(table, rows=rows, ignored=ignored)


GENERATION_HEADS: dict[str, Any] = {name: make for name, make in bart.GENERATION_HEADS.items() if name != "ForCausalLM"}
ARCHITECTURE = replace(
    bart.ARCHITECTURE,
    name="LED",
    config=LEDConfig,
    build=build,
    keys=keys,
    heads={**GENERATION_HEADS, "ForQuestionAnswering": bart.answer},
    head_types={},
    backbone_variants={},
    inputs={GLOBAL: lambda given, layout: layout.pack_tokens(given)},
)
