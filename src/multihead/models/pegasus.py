"""Pegasus (Zhang et al., 2019, arXiv:1912.08777): a pre-norm BART with sinusoidal positions."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Size
from ..nn.embeddings import SinusoidalPositions
from .bart import GENERATION_HEADS, BartConfig, Style, family


@dataclass(kw_only=True)
class PegasusConfig(BartConfig):
    model_type = "pegasus"

    num_labels: Size = 2
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = 0
    forced_eos_token_id: int | list[int] | None = 1


def positions(config: PegasusConfig) -> SinusoidalPositions:
    return SinusoidalPositions(config.d_model)


STYLE = Style(positions, norm="before", source_norm=None, target_norm=None, source_scale="id", target_scale="all")
ARCHITECTURE = family("Pegasus", PegasusConfig, STYLE, GENERATION_HEADS)
