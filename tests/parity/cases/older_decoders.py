"""Decoders in the style of GPT and fairseq, and ModernBERT's."""

from __future__ import annotations

from ..case import Case
from .gpt import FEW, GPT, NEOX, of

XGLM = {"d_model": 36, "num_layers": 3, "attention_heads": 4, "ffn_dim": 50, "max_position_embeddings": 40}
BIO = {**NEOX, "intermediate_size": 50}
MODERN = {
    **BIO,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "local_attention": 8,
    **{f"{x}_token_id": 1 for x in ("cls", "sep")},
}

CASES = (
    Case("codegen", of("CodeGen", **{**GPT, "n_embd": 48, "n_head": 8}, rotary_dim=4), FEW),
    Case("codegen-inner-tied", of("CodeGen", **GPT, rotary_dim=6, n_inner=44, tie_word_embeddings=True),
         ("ForCausalLM",)),
    Case("xglm", of("XGLM", **XGLM), FEW, absolute=True),
    Case("xglm-unscaled", of("XGLM", **XGLM, scale_embedding=False, tie_word_embeddings=False), ("ForCausalLM",),
         absolute=True),
    Case("biogpt", of("BioGpt", **BIO), (*FEW, "ForTokenClassification", "ForSequenceClassification"), absolute=True),
    Case("biogpt-unscaled", of("BioGpt", **BIO, scale_embedding=False, tie_word_embeddings=False), ("ForCausalLM",),
         absolute=True),
    Case("gpt-neox-japanese", of("GPTNeoXJapanese", **{**NEOX, "hidden_size": 32}), FEW),
    Case("gpt-neox-japanese-part", of("GPTNeoXJapanese", **{**NEOX, "hidden_size": 64}, rotary_pct=0.5,
         intermediate_multiple_size=2, tie_word_embeddings=False), ("ForCausalLM",)),
    Case("modernbert-decoder", of("ModernBertDecoder", **MODERN), (*FEW, "ForSequenceClassification")),
    Case("modernbert-decoder-biased", of("ModernBertDecoder", **MODERN, norm_bias=True, attention_bias=True,
         mlp_bias=True, classifier_bias=True, decoder_bias=False, tie_word_embeddings=False),
         ("ForCausalLM", "ForSequenceClassification")),
)  # fmt: skip
