"""T5Gemma 2 (Zhang et al., 2025, arXiv:2512.14856): Gemma 3's layers as a pair whose decoder merges its attentions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.attention.attention import Attention
from ..nn.attention.local import TwoSidedAttention
from ..nn.attention.merged import MergedAttention
from ..nn.layer import Layer
from ..nn.norms import WideRMSNorm
from ..nn.positions import Rotary
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Dropout, MarkedEmbedding
from . import gemma3, llama, t5gemma
from .common.patterns import SLIDING, layer_kinds, rotary_by_layer
from .common.patterns import every as every_layer
from .gemma import norm


@dataclass(kw_only=True)
class T5Gemma2TextConfig(gemma3.Gemma3TextConfig):
    """The config of the decoder or of the encoder's text."""

    model_type = "t5gemma2_text"

    use_bidirectional_attention: Literal[None, False] = None  # no layer asks for it
    dropout_rate: float = 0.0


@dataclass(kw_only=True)
class T5Gemma2Config(t5gemma.T5GemmaConfig):
    model_type = "t5gemma2"
    aliases: ClassVar[dict[str, str]] = {"eoi_token_id": "eoi_token_index", "image_token_id": "image_token_index"}
    inert: ClassVar[tuple[str, ...]] = ("eoi_token_index", "image_token_index")  # the encoder's is read; of images

    is_encoder_decoder: Literal[True] = True
    vocab_size: Size = 262208

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Take the special tokens and the number of words from the decoder."""
        words = (entries.get("decoder") or {}).get("vocab_size", 262208)
        return {**super().normalized(entries), "vocab_size": words}

    def check(self) -> None:
        for side in (self.source, self.target):
            layer_kinds(side, every_layer(side.sliding_window_pattern, side.num_hidden_layers))
        for name in ("hidden_size", "vocab_size"):
            one, other = getattr(self.source, name), getattr(self.target, name)
            if one != other:
                raise UnsupportedConfig(f"{name} is {one} in the encoder and {other} in the decoder; both share words.")

    @cached_property
    def source(self) -> T5Gemma2TextConfig:  # type: ignore[override]
        return self._side(self.encoder.get("text_config") or {})

    @cached_property
    def target(self) -> T5Gemma2TextConfig:  # type: ignore[override]
        return self._side(self.decoder)

    def _side(self, entries: dict[str, Any]) -> T5Gemma2TextConfig:  # type: ignore[override]
        shared = {"dropout_rate": self.dropout_rate, "attention_dropout": self.attention_dropout}
        return T5Gemma2TextConfig.read({**entries, **shared})

    @property
    def end_of_image(self) -> int:
        """Id whose vector is not one of the table."""
        return self.encoder.get("eoi_token_index", self.encoder.get("eoi_token_id", 256000))


def attention(config: T5Gemma2TextConfig, kind: str, positions: Rotary, *, merged: bool) -> Attention:
    window = config.sliding_window if kind == SLIDING else None
    options: dict[str, Any] = {
        "head_width": config.head_width,
        "key_heads": config.num_key_value_heads,
        "bias": config.attention_bias,
        "positions": positions,
        "scale": config.query_pre_attn_scalar**-0.5,
        "dropout": config.attention_dropout,
        **{n: WideRMSNorm(config.head_width, config.rms_norm_eps, centre=1.0) for n in ("q_norm", "k_norm")},
    }
    width, heads = config.hidden_size, config.num_attention_heads
    if merged:
        return MergedAttention(width, heads, causal=True, window=window, **options)
    if window is None or window % 2:
        return Attention(width, heads, window=None if window is None else window // 2 + 1, **options)
    return TwoSidedAttention(width, heads, back=window // 2, ahead=window // 2 + 1, **options)


def side(config: T5Gemma2TextConfig, words: MarkedEmbedding, *, merged: bool) -> Stack:
    positions = rotary_by_layer(config, config.head_width)

    def layer(kind: str) -> Layer:
        own = t5gemma.step(config, attention(config, kind, positions[kind], merged=merged))
        return Layer(own, t5gemma.step(config, llama.feed_forward(config)))

    kinds = layer_kinds(config, every_layer(config.sliding_window_pattern, config.num_hidden_layers))
    stack = llama.decoder(config, lambda i: layer(kinds[i]), norm, words, dropout=config.dropout_rate)
    stack.out = Dropout(config.dropout_rate)
    return stack


def build(config: T5Gemma2Config) -> EncoderDecoder:
    width, mark = config.hidden_size, config.end_of_image
    tables = [MarkedEmbedding(config.vocab_size, width, width**0.5, mark=mark) for _ in range(2)]
    own = tables[0] if config.tie_word_embeddings else tables[1]
    return EncoderDecoder(side(config.source, tables[0], merged=False), side(config.target, own, merged=True))


def keys(config: T5Gemma2Config) -> KeyMap:
    rows: dict[str, str | Source] = {}
    ignored = [r"^(model\.)?encoder\.(vision_tower|multi_modal_projector)\."]
    for name in ("encoder.", "decoder."):
        rows |= t5gemma.side_rows(name, name)
        rows[f"{name}embed.token.marked"] = f"{name}embed_tokens.eoi_embedding"
        rows |= {f"{name}layers.*.attention.step.{n}": f"{name}layers.*.self_attn.{n}" for n in ("q_norm", "k_norm")}
    if config.tie_word_embeddings:
        ignored += [r"^(model\.)?decoder\.embed_tokens\.", r"^lm_head\.out_proj\.weight$"]
    modules = (r"^((?:model\.)?encoder\.)text_model\.", r"\1")  # names of the reference's modules
    return KeyMap(rows, "model.", ignored=tuple(ignored), renamed=(modules,))


ARCHITECTURE = replace(
    t5gemma.ARCHITECTURE,
    name="T5Gemma2",
    config=T5Gemma2Config,
    build=build,
    keys=keys,
    heads={end: make for end, make in t5gemma.ARCHITECTURE.heads.items() if end != "EncoderModel"},
    backbone_variants={},
)
