"""Encoders that attend by hashes."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case

SIZES = {"vocab_size": WORDS, "hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 6,
         "intermediate_size": 50, "max_position_embeddings": 40, "pad_token_id": 0, "num_labels": 3}  # fmt: skip
HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification",
         "ForQuestionAnswering")  # fmt: skip


def of(name: str, **changes: Any) -> Any:
    return lambda: getattr(transformers, f"{name}Config")(**{**SIZES, **changes})


# The reference's attention sees padding, and what it shows as attentions are outputs.
EQUAL: dict[str, Any] = {"absolute": True, "lengths": (9, 9, 9), "attentions": False}
CASES = (
    Case("yoso", of("Yoso", conv_window=5, type_vocab_size=2), HEADS, **EQUAL, segments=2),
    Case("yoso-plain", of("Yoso", hash_code_len=4), ("Model",), **EQUAL),
)
