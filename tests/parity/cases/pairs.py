"""Encoder-decoders of two models, and of one family's two sides."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case
from . import decoders
from .more_encoders import of
from .seq2seq import bart


def pair(source: Any, target: Any) -> Any:
    def make() -> Any:
        config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(source(), target())
        config.pad_token_id, config.decoder_start_token_id, config.eos_token_id = 0, 7, 2
        return config

    return make


def gpt2() -> Any:
    return transformers.GPT2Config(vocab_size=WORDS, n_embd=24, n_layer=2, n_head=3, n_positions=40)


def t5gemma(**changes: Any) -> Any:
    def make() -> Any:
        sizes = {k: v for k, v in decoders.SIZES.items() if k != "num_labels"} | {"head_dim": 8, "sliding_window": 4}
        layers = {"num_hidden_layers": 4, "query_pre_attn_scalar": 10}
        source = {**sizes, **layers, "hidden_size": 48, "intermediate_size": 40}
        return transformers.T5GemmaConfig(
            encoder=transformers.T5GemmaConfig().encoder.__class__(**source),
            decoder=transformers.T5GemmaConfig().encoder.__class__(**{**sizes, "attn_logit_softcapping": 20.0}),
            vocab_size=WORDS, num_labels=3, **changes,
        )  # fmt: skip

    return make


POOLER = {"unused": ("pooler",), "stem": "EncoderDecoder", "absolute": True}
CASES = (
    Case("bert-with-bert", pair(of("Bert"), of("Bert", num_hidden_layers=2)), ("Model",), **POOLER),
    Case("bert-with-gpt2", pair(of("Bert"), gpt2), ("Model",), **POOLER),
    Case("roberta-with-bert-generation", pair(
        of("Roberta", pad_token_id=1), lambda: transformers.BertGenerationConfig(vocab_size=WORDS, hidden_size=24,
        num_hidden_layers=2, num_attention_heads=3, intermediate_size=30, max_position_embeddings=40)), ("Model",),
        **POOLER),
    Case("modernbert-with-roberta", pair(of("DistilBert"), of("Roberta", pad_token_id=1, hidden_size=24)), ("Model",),
         **POOLER),
    Case("electra-with-bart", pair(of("Electra", embedding_size=20), lambda: bart().__class__(**{
        **bart().to_dict(), "is_encoder_decoder": False, "is_decoder": True})), ("Model",), **POOLER),
    Case("t5gemma", t5gemma(), ("Model", "ForConditionalGeneration")),
    Case("t5gemma-encoder", t5gemma(is_encoder_decoder=False), ("EncoderModel",)),
    Case("t5gemma-untied", t5gemma(tie_word_embeddings=False), ("ForConditionalGeneration",)),
    Case("t5gemma-source-as-target", t5gemma(), ("ForSequenceClassification", "ForTokenClassification"),
         lengths=(9, 9, 9), absolute=True,
         # The reference calls the decoder's states and attentions by an encoder's names here.
         hidden=False, attentions=False),
)  # fmt: skip
