"""Encoder-decoders whose decoder merges self-attention and cross-attention."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case

SIZES = {
    "vocab_size": WORDS, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "query_pre_attn_scalar": 10, "max_position_embeddings": 64, "sliding_window_pattern": 2,
    "num_hidden_layers": 2,
}  # fmt: skip
SIGHT = {
    "model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 1, "image_size": 8, "patch_size": 4,
}  # fmt: skip
UNUSED = {"unused": ("vision_tower", "multi_modal_projector")}


def t5gemma2(near: int = 4, source: dict | None = None, target: dict | None = None, **outer: Any) -> Any:
    def make() -> Any:
        encoder = {
            "text_config": {**SIZES, "sliding_window": near, **(source or {})}, "vision_config": SIGHT,
            "mm_tokens_per_image": 4, "eoi_token_index": 13, "boi_token_index": 18,
        }  # fmt: skip
        decoder = {**SIZES, "sliding_window": 3, **(target or {})}
        made = {"image_token_index": 19, "num_labels": 3, **outer}
        return transformers.T5Gemma2Config(encoder=encoder, decoder=decoder, **made)

    return make


CASES = (
    Case("t5gemma2", t5gemma2(), ("Model", "ForConditionalGeneration"), **UNUSED),
    Case("t5gemma2-untied", t5gemma2(5, {"num_hidden_layers": 3}, {"final_logit_softcapping": 5.0},
        tie_word_embeddings=False), ("ForConditionalGeneration",), **UNUSED),
    Case("t5gemma2-source-as-target", t5gemma2(), ("ForSequenceClassification", "ForTokenClassification"),
         lengths=(9, 9, 9), absolute=True, hidden=False, attentions=False, **UNUSED),
)  # fmt: skip
