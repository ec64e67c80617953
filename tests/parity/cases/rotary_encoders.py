"""Encoders whose queries and keys are turned by their positions."""

from __future__ import annotations

from typing import Any

from ..case import Case
from . import more_encoders
from .more_encoders import ALL

MODERN = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


def of(name: str, **changes: Any) -> Any:
    """Rotary positions turn pairs of channels: heads of six."""
    return more_encoders.of(name, **{"num_attention_heads": 6, **changes})


def modern(**changes: Any) -> Any:
    return of("ModernBert", **{"local_attention": 6, "num_hidden_layers": 4, **MODERN, **changes})


def without(*ends: str) -> tuple[str, ...]:
    return tuple(end for end in ALL if end not in ends)


CASES = (
    Case("modernbert", modern(), without("ForSequenceClassification")),
    Case(
        "modernbert-first-token", modern(), ("ForSequenceClassification",), absolute=True
    ),  # a pad's, where on the left
    Case(
        "modernbert-biases-means",
        modern(
            attention_bias=True,
            mlp_bias=True,
            norm_bias=True,
            classifier_bias=True,
            decoder_bias=False,
            classifier_pooling="mean",
            layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
        ),
        ("Model", "ForMaskedLM", "ForSequenceClassification"),
    ),
    Case("modernbert-untied", modern(tie_word_embeddings=False), ("ForMaskedLM",)),
    Case(
        "roformer",
        of("RoFormer", embedding_size=20),
        without("ForSequenceClassification", "ForMultipleChoice"),
        segments=2,
        fixed=("embed_positions",),
    ),
    Case(
        "roformer-first-token",
        of("RoFormer"),
        ("ForSequenceClassification",),
        absolute=True,
        segments=2,
        fixed=("embed_positions",),
    ),
    Case(
        "roformer-choices",
        of("RoFormer", embedding_size=36),
        ("ForMultipleChoice",),
        segments=2,
        fixed=("embed_positions",),
        lengths=(9, 9, 9),  # the reference takes the last column, padding or not
    ),
    Case(
        "roformer-choices-projected",
        of("RoFormer", summary_type="first", summary_use_proj=True, summary_activation="gelu"),
        ("ForMultipleChoice",),
        absolute=True,
        segments=2,
        fixed=("embed_positions",),
    ),
    Case("roformer-decoder", of("RoFormer", is_decoder=True), ("ForCausalLM",), fixed=("embed_positions",)),
    Case(
        "nomic-bert",
        of("NomicBert", head_dim=10),
        ("Model", "ForMaskedLM", "ForTokenClassification"),
        segments=2,
    ),
    Case("nomic-bert-first-token", of("NomicBert"), ("ForSequenceClassification",), absolute=True, segments=2),
)
