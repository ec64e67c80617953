"""Marian."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case


def marian(**changes: Any) -> transformers.MarianConfig:
    sizes = {"vocab_size": WORDS, "d_model": 36, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4}
    sizes |= {"decoder_attention_heads": 6, "encoder_ffn_dim": 50, "decoder_ffn_dim": 44, "max_position_embeddings": 64}
    sizes |= {
        "pad_token_id": WORDS - 1,
        "decoder_start_token_id": WORDS - 1,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
    }
    return transformers.MarianConfig(**{**sizes, "num_beams": 1, "max_length": 20, **changes})


CASES = (
    Case("marian", marian, ("Model", "MTModel", "ForCausalLM"), absolute=True, fixed=("embed_positions",)),
    Case(
        "marian-untied",
        lambda: marian(tie_word_embeddings=False),
        ("Model", "MTModel"),
        absolute=True,
        fixed=("embed_positions",),
        loss=False,
    ),
    Case(
        "marian-scaled-two-vocabularies",
        lambda: marian(
            scale_embedding=True,
            share_encoder_decoder_embeddings=False,
            decoder_vocab_size=WORDS,
            activation_function="swish",
            tie_word_embeddings=False,
        ),
        ("Model", "MTModel"),
        absolute=True,
        fixed=("embed_positions",),
    ),
)
