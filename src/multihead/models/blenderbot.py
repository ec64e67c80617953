"""Blenderbot (Roller et al., 2020, arXiv:2004.13637) and its small model: BART for conversation."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Count, Size
from .bart import GENERATION_HEADS, BartConfig, Style, family, learned


@dataclass(kw_only=True)
class BlenderbotConfig(BartConfig):
    model_type = "blenderbot"

    vocab_size: Size = 8008
    d_model: Size = 2560
    encoder_layers: Count = 2
    encoder_attention_heads: Size = 32
    encoder_ffn_dim: Size = 10240
    decoder_layers: Count = 24
    decoder_attention_heads: Size = 32
    decoder_ffn_dim: Size = 10240
    max_position_embeddings: Size = 128
    num_labels: Size = 2
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    decoder_start_token_id: int | None = 1


@dataclass(kw_only=True)
class BlenderbotSmallConfig(BlenderbotConfig):
    model_type = "blenderbot-small"

    vocab_size: Size = 50265
    d_model: Size = 512
    encoder_layers: Count = 8
    encoder_attention_heads: Size = 16
    encoder_ffn_dim: Size = 2048
    decoder_layers: Count = 8
    decoder_attention_heads: Size = 16
    decoder_ffn_dim: Size = 2048
    max_position_embeddings: Size = 512


LARGE = Style(learned, norm="before", source_norm=None, target_norm=None)
ARCHITECTURE = family("Blenderbot", BlenderbotConfig, LARGE, GENERATION_HEADS)
FIRST = Style(learned, target_norm="widen", source_scale="id", target_scale=None)  # its target's words are not scaled
SMALL = family("BlenderbotSmall", BlenderbotSmallConfig, FIRST, GENERATION_HEADS)
