"""Encoder-decoders of 2019 and 2020 with parts of their own: FSMT and ProphetNet."""

from __future__ import annotations

from functools import partial
from typing import Any

import transformers

from ..case import WORDS, Case


def fsmt(**changes: Any) -> Any:
    """The reference's pass with a cache sees the words after each, unless labels are given."""
    sizes = {"src_vocab_size": WORDS, "tgt_vocab_size": WORDS + 5, "d_model": 36, "max_position_embeddings": 64}
    sizes |= {"encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 50}
    sizes |= {"decoder_layers": 2, "decoder_attention_heads": 6, "decoder_ffn_dim": 44}
    return transformers.FSMTConfig(**{**sizes, "num_beams": 1, "use_cache": False, **changes})


def cached(model: Any, end: str) -> None:
    """Its `generate` without a cache sees other words too."""
    if end == "ForConditionalGeneration":
        model.generation_config.use_cache = True


FSMT = {"absolute": True, "fixed": ("embed_positions",), "altered": cached}
CASES = (
    Case("fsmt", fsmt, ("Model", "ForConditionalGeneration"), **FSMT),
    Case("fsmt-tied", partial(fsmt, tgt_vocab_size=WORDS, tie_word_embeddings=True, scale_embedding=False),
         ("ForConditionalGeneration",), **FSMT),
)  # fmt: skip
