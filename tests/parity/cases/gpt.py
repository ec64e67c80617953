"""GPT and the decoders in its style."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case

GPT = {"n_embd": 36, "n_layer": 3, "n_head": 4, "n_positions": 40}
NEOX = {"hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}
IDS = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3}
LM = ("Model", "LMHeadModel")
FEW = ("Model", "ForCausalLM")
ALL = (*FEW, "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def of(name: str, **changes: Any) -> Any:
    """Makes the reference's config of a family, tiny."""
    return lambda: getattr(transformers, f"{name}Config")(**{**IDS, **changes})


def falcon(**changes: Any) -> Any:
    return of("Falcon", **{**NEOX, "hidden_size": 48, "num_kv_heads": 2, **changes})


def neo(kinds: list[str], **changes: Any) -> Any:
    sizes = {"hidden_size": 36, "num_layers": 3, "num_heads": 4, "max_position_embeddings": 40, "window_size": 4}
    return of("GPTNeo", **sizes, attention_types=[[kinds, 1]], **changes)


CASES = (
    Case(
        "gpt2",
        of("GPT2", **GPT),
        (*LM, "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
        absolute=True,
    ),
    Case(
        "gpt2-variants",
        of("GPT2", **GPT, n_inner=44, scale_attn_by_inverse_layer_idx=True, activation_function="relu",
           tie_word_embeddings=False),
        LM,
        absolute=True,
    ),
    Case("gpt2-unscaled", of("GPT2", **GPT, scale_attn_weights=False), LM, absolute=True),
    Case(
        "gpt-bigcode",
        of("GPTBigCode", **GPT),
        (*FEW, "ForSequenceClassification", "ForTokenClassification"),
        absolute=True,
    ),
    Case("gpt-bigcode-many-heads", of("GPTBigCode", **GPT, multi_query=False), FEW, absolute=True),
    Case(
        "gpt",
        of("OpenAIGPT", **GPT),
        (*LM, "ForSequenceClassification"),
        absolute=True,
        chunks=False,  # the reference has no cache
    ),
    Case("gpt-neo", neo(["global", "local", "global"]), ALL, absolute=True),
    Case("gpt-neo-wide", neo(["local", "local", "global"], intermediate_size=50), FEW, absolute=True),
    Case(
        "gptj",
        of("GPTJ", **GPT, rotary_dim=4),
        (*FEW, "ForSequenceClassification", "ForQuestionAnswering"),
    ),
    Case("gpt-neox", of("GPTNeoX", **NEOX, intermediate_size=50, rotary_pct=0.5), ALL),
    Case(
        "gpt-neox-in-turn",
        of("GPTNeoX", **NEOX, intermediate_size=50, rotary_pct=0.5, use_parallel_residual=False, attention_bias=False,
           tie_word_embeddings=True),
        FEW,
    ),
    Case(
        "opt",
        of("OPT", **NEOX, ffn_dim=50, word_embed_proj_dim=36),
        (*FEW, "ForSequenceClassification", "ForQuestionAnswering"),
    ),
    Case(
        "opt-350m",
        of("OPT", **NEOX, ffn_dim=50, word_embed_proj_dim=20, do_layer_norm_before=False),
        (*FEW, "ForSequenceClassification"),
    ),
    Case(
        "opt-plain-norms",
        of("OPT", **NEOX, ffn_dim=50, word_embed_proj_dim=36, enable_bias=False, layer_norm_elementwise_affine=False),
        FEW,
    ),
    Case("bloom", of("Bloom", hidden_size=36, n_layer=3, n_head=6), ALL),
    Case(
        "bloom-normed-residual",
        of("Bloom", hidden_size=36, n_layer=3, n_head=4, apply_residual_connection_post_layernorm=True),
        FEW,
    ),
    Case("falcon", falcon(), ALL),
    Case("falcon-new", falcon(new_decoder_architecture=True, bias=True), FEW),
    Case("falcon2", falcon(new_decoder_architecture=True, num_ln_in_parallel_attn=1), FEW),
    Case(
        "falcon-rw",
        falcon(alibi=True, multi_query=False, parallel_attn=False, num_kv_heads=4, bias=True),
        FEW,
        backend="sdpa",  # the reference's plain attention adds the biases twice
        attentions=False,
    ),
    Case("mpt", of("Mpt", d_model=36, n_layers=3, n_heads=4, max_seq_len=40), ALL),
    Case(
        "mpt-clipped",
        of("Mpt", d_model=36, n_layers=3, n_heads=6, max_seq_len=40,
           attn_config={"clip_qkv": 0.5, "softmax_scale": 0.3}),
        FEW,
    ),
    Case(
        "ctrl",
        of("CTRL", **GPT, dff=50),
        (*LM, "ForSequenceClassification"),
        absolute=True,
    ),
    Case("phi", of("Phi", **{**NEOX, "hidden_size": 48}, num_key_value_heads=2, intermediate_size=50), FEW),
    Case(
        "phi-normed",
        of("Phi", **{**NEOX, "hidden_size": 64}, intermediate_size=50, qk_layernorm=True, partial_rotary_factor=0.25),
        (*FEW, "ForSequenceClassification", "ForTokenClassification"),
    ),
    # A token's type is a word here, whose vector is added.
    Case("gpt2-token-types", of("GPT2", **GPT), ("Model",), absolute=True, segments=9),
    Case("gpt-token-types", of("OpenAIGPT", **GPT), ("Model",), absolute=True, segments=9),
    Case("gptj-token-types", of("GPTJ", **GPT, rotary_dim=4), ("Model",), segments=9),
    Case("gpt-neo-token-types", neo(["global"] * 3), ("Model",), absolute=True, segments=9),
    Case("ctrl-token-types", of("CTRL", **GPT, dff=50), ("Model",), absolute=True, segments=9),
)  # fmt: skip
