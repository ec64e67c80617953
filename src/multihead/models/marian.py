"""Marian (Junczys-Dowmunt et al., 2018, arXiv:1804.00344): a post-norm encoder-decoder with sinusoidal positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..checkpoints.key_map import KeyMap
from ..config import Size
from ..nn.embeddings import SinusoidalPositions
from . import bart
from .bart import BartConfig, Style


@dataclass(kw_only=True)
class MarianConfig(BartConfig):
    model_type = "marian"

    vocab_size: Size = 58101
    decoder_vocab_size: Size | None = None
    share_encoder_decoder_embeddings: bool = True
    normalize_before: Literal[False] = False
    normalize_embedding: Literal[False] = False
    add_final_layer_norm: Literal[False] = False
    add_bias_logits: Literal[False] = False
    static_position_embeddings: Literal[True] = True
    num_labels: Size = 2
    pad_token_id: int | None = 58100
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 0
    decoder_start_token_id: int | None = 58100
    forced_eos_token_id: int | list[int] | None = 0

    @property
    def shares_words(self) -> bool:
        return self.share_encoder_decoder_embeddings and super().shares_words

    @property
    def target_size(self) -> int:
        """Number of tokens of the target language."""
        return self.decoder_vocab_size or self.vocab_size


def positions(config: MarianConfig) -> SinusoidalPositions:
    return SinusoidalPositions(config.d_model)


STYLE = Style(positions, source_norm=None, target_norm=None, source_scale="id", target_scale="all")


def keys(config: MarianConfig) -> KeyMap:
    """Return BART's key map; where each side has its own embeddings, a shared table is ignored."""
    table = bart.keys(config, STYLE)
    if config.share_encoder_decoder_embeddings:
        return table
    return replace(table, aliases=(), ignored=(*table.ignored, r"^model\.shared\.weight$"))


ARCHITECTURE = replace(
    bart.family(
        "Marian",
        MarianConfig,
        STYLE,
        {"Model": None, "MTModel": bart.generate, "ForCausalLM": bart.generate_plain},
    ),
    keys=keys,
)
