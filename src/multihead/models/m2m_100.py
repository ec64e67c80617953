"""M2M-100 (Fan et al., 2020, arXiv:2010.11125) and NLLB (2022, arXiv:2207.04672): a pre-norm BART for translation."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Size
from ..nn.embeddings import Tensor2TensorPositions
from .bart import BartConfig, Style, family, generate_plain


@dataclass(kw_only=True)
class M2M100Config(BartConfig):
    model_type = "m2m_100"

    vocab_size: Size = 128112
    activation_function: str = "relu"
    attention_dropout: float = 0.1
    encoder_layerdrop: float = 0.05
    decoder_layerdrop: float = 0.05
    scale_embedding: bool = True
    num_labels: Size = 2
    forced_eos_token_id: int | list[int] | None = None


def positions(config: M2M100Config) -> Tensor2TensorPositions:
    return Tensor2TensorPositions(config.d_model, padding=config.pad_token_id or 0)


STYLE = Style(positions, norm="before", source_norm=None, target_norm=None)
ARCHITECTURE = family("M2M100", M2M100Config, STYLE, {"Model": None, "ForConditionalGeneration": generate_plain})
