"""Decoders that are Llama's relatives."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case

SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 50,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 3,
}
ENDS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")
ALL = (*ENDS, "ForQuestionAnswering")
FEW = ("Model", "ForCausalLM")
THREE_HEADS = {"hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "short_factor": [1.0, 1.5, 2.0],
    "long_factor": [2.0, 3.0, 5.0],
}


def of(name: str, **changes: Any) -> Any:
    """Makes the reference's config of a family, tiny."""
    return lambda: getattr(transformers, f"{name}Config")(**{**SIZES, **changes})


def glm(name: str, **changes: Any) -> Any:
    return of(name, head_dim=12, **changes)


CASES = (
    Case("llama-yarn", of("Llama", rope_parameters=YARN), FEW),
    Case("llama-dynamic-within", of("Llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0}), FEW),
    Case("mistral", of("Mistral", sliding_window=4), ALL),
    Case("mistral-wide-heads", of("Mistral", sliding_window=None, head_dim=10, tie_word_embeddings=True), FEW),
    Case("ministral", of("Ministral", sliding_window=4, layer_types=ALTERNATING, head_dim=8), ALL),
    Case("qwen2", of("Qwen2"), ALL),
    Case("qwen2-window", of("Qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1), FEW),
    Case("qwen3", of("Qwen3", head_dim=8), ALL),
    Case("qwen3-biased-tied", of("Qwen3", head_dim=6, attention_bias=True, tie_word_embeddings=True), FEW),
    Case("gemma", of("Gemma", head_dim=8), ENDS, tolerance=5e-5),
    Case("gemma2", of("Gemma2", head_dim=8, sliding_window=4, query_pre_attn_scalar=10), ENDS),
    Case("gemma2-uncapped", of("Gemma2", head_dim=8, attn_logit_softcapping=None, final_logit_softcapping=None), FEW),
    Case(
        "gemma3",
        of("Gemma3Text", head_dim=8, sliding_window=4, layer_types=ALTERNATING),
        ("TextModel", "ForCausalLM", "TextForSequenceClassification"),
        stem="Gemma3",
    ),
    Case("gemma3-capped-in-name", of("Gemma3Text", head_dim=8, attn_logit_softcapping=2.0), ("ForCausalLM",),
         stem="Gemma3"),
    Case("olmo", of("Olmo", clip_qkv=0.5), ("Model", "ForCausalLM", "ForSequenceClassification")),
    Case("olmo2", of("Olmo2"), ("Model", "ForCausalLM", "ForSequenceClassification")),
    Case(
        "olmo3",
        of("Olmo3", sliding_window=4, layer_types=ALTERNATING),
        ("Model", "ForCausalLM", "ForSequenceClassification"),
    ),
    Case(
        "granite",
        of("Granite", embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.4, logits_scaling=2.5),
        FEW,
    ),
    Case("stablelm", of("StableLm", **THREE_HEADS, use_qkv_bias=True), ENDS),
    Case(
        "stablelm-parallel-normed",
        of("StableLm", use_parallel_residual=True, qk_layernorm=True, partial_rotary_factor=0.5,
           num_attention_heads=3, num_key_value_heads=1),
        FEW,
    ),
    Case("starcoder2", of("Starcoder2", sliding_window=4), ENDS),
    Case("starcoder2-unbiased-untied", of("Starcoder2", use_bias=False, tie_word_embeddings=False), FEW),
    Case("cohere", of("Cohere", logit_scale=0.3), FEW),
    Case("cohere-normed", of("Cohere", use_qk_norm=True, attention_bias=True), FEW),
    Case("cohere2", of("Cohere2", sliding_window=4), FEW),
    Case("glm", glm("Glm"), ENDS),
    Case("glm4", glm("Glm4", attention_bias=False), ENDS),
    Case("phi3", of("Phi3", sliding_window=4), ENDS),
    Case(
        "phi3-longrope",
        of("Phi3", rope_parameters=LONG, original_max_position_embeddings=3),
        FEW,
        chunks=False,  # within three tokens the short factors hold: what is read in one pass turns otherwise
    ),
    Case("smollm3", of("SmolLM3", no_rope_layers=[1, 0, 1]), ALL),
    Case(
        "smollm3-window",
        of("SmolLM3", no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=4, tie_word_embeddings=False),
        FEW,
    ),
)  # fmt: skip
