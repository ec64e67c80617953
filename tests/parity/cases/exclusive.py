"""NeoMME, an encoder that leaves a token's own value out of its attention; its texts alone."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case

NEOMME = {
    "vocab_size": WORDS, "embedding_rank": 12, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "patch_size": 2,
    "embedding_dim": 8, "sliding_window": 2, "image_token_id": WORDS - 1,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
}  # fmt: skip
UNREAD = ("patch_embeddings",)  # images are not read here


def neomme(**changes: Any) -> Any:
    return lambda: transformers.NeoMMEConfig(**{**NEOMME, **changes})


CASES = (
    Case("neomme", neomme(), ("Model", "ForMaskedLM"), unused=UNREAD),
    Case("neomme-retrieval", neomme(), ("ForRetrieval",), unused=UNREAD),
    Case(
        "neomme-untied",
        neomme(tie_word_embeddings=False, attention_bias=True, mlp_bias=True, residual_multiplier=0.7, layer_types=None,
               rope_parameters={"sliding_attention": {"rope_theta": 70.0}}),
        ("ForMaskedLM",),
        unused=UNREAD,
    ),
)  # fmt: skip
