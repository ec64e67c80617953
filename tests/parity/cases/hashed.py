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


REFORMER = {"attn_layers": ["local", "lsh", "lsh"], "attention_head_size": 8, "feed_forward_size": 50, "hash_seed": 3,
            "axial_pos_shape": (6, 8), "axial_pos_embds_dim": (12, 24), "local_attn_chunk_length": 4,
            "lsh_attn_chunk_length": 4, "num_hashes": 2, "num_buckets": 4, "use_cache": False}  # fmt: skip


def reformer(**changes: Any) -> Any:
    sizes = {k: v for k, v in SIZES.items() if k not in ("num_hidden_layers", "intermediate_size")}
    return lambda: transformers.ReformerConfig(**{**sizes, **REFORMER, **changes})


# The reference's attention sees padding, and what it shows as attentions are outputs.
EQUAL: dict[str, Any] = {"absolute": True, "lengths": (9, 9, 9), "attentions": False}
CASES = (
    Case("yoso", of("Yoso", conv_window=5, type_vocab_size=2), HEADS, **EQUAL, segments=2),
    Case("yoso-plain", of("Yoso", hash_code_len=4), ("Model",), **EQUAL),
    # Chunks of the reference move with padding, and it shows two streams of states in its own way.
    # Its axial positions fail in bfloat16, and it has gradients in training alone: test_reformer.py compares them.
    Case(
        "reformer",
        reformer(),
        ("Model", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering"),
        **EQUAL,
        hidden=False,
        half=False,
        loss=False,
    ),
    Case(
        "reformer-decoder",
        reformer(is_decoder=True, num_buckets=[2, 4], lsh_attn_chunk_length=8, axial_pos_embds=False),
        ("ModelWithLMHead",),
        **EQUAL,
        hidden=False,
        chunks=False,
        counts_pads=True,
        loss=False,
    ),
)
