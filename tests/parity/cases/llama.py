"""Llama."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case


def llama(**changes: Any) -> transformers.LlamaConfig:
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "intermediate_size": 50,
    }
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 3}
    return transformers.LlamaConfig(**{**sizes, **changes})


LLAMA_ENDS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

CASES = (
    Case("llama", llama, LLAMA_ENDS),
    Case(
        "llama-biased-tied-wide-heads",
        lambda: llama(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=10),
        ("Model", "ForCausalLM"),
    ),
    Case(
        "llama-linear-rope",
        lambda: llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 50.0}),
        ("Model",),
    ),
    Case("llama-llama3-rope", lambda: llama(rope_parameters=LLAMA3), ("Model", "ForCausalLM")),
)
