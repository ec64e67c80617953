"""mBART (Liu et al., 2020, arXiv:2001.08210) and PLBART (Ahmad et al., 2021, arXiv:2103.06333): BART of many languages.

A target begins with the token of its language, which stands last in its labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import Count, Size
from ..heads.decoder_inputs import after_own_last
from .bart import BART, GENERATION_HEADS, LABEL_HEADS, BartConfig, classify_text, family


@dataclass(kw_only=True)
class MBartConfig(BartConfig):
    model_type = "mbart"

    num_labels: Size = 2
    decoder_start_token_id: int | None = None


@dataclass(kw_only=True)
class PLBartConfig(MBartConfig):
    model_type = "plbart"

    vocab_size: Size = 50005
    d_model: Size = 768
    encoder_layers: Count = 6
    encoder_attention_heads: Size = 12
    encoder_ffn_dim: Size = 3072
    decoder_layers: Count = 6
    decoder_attention_heads: Size = 12
    decoder_ffn_dim: Size = 3072
    attention_dropout: float = 0.1
    scale_embedding: bool = True


HEADS = {**GENERATION_HEADS, **LABEL_HEADS}
ARCHITECTURE = family(
    "MBart", MBartConfig, replace(BART, norm="before"), HEADS, shift_right=after_own_last, source_as_target=tuple(HEADS)
)
PLBART_HEADS = {**GENERATION_HEADS, "ForSequenceClassification": classify_text}
PLBART = family(
    "PLBart", PLBartConfig, BART, PLBART_HEADS, shift_right=after_own_last, source_as_target=tuple(PLBART_HEADS)
)
