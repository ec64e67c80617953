"""BERT and ALBERT."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case


def bert(**changes: Any) -> transformers.BertConfig:
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 50,
    }
    return transformers.BertConfig(**{**sizes, "max_position_embeddings": 40, "num_labels": 3, **changes})


def albert(**changes: Any) -> transformers.AlbertConfig:
    sizes = {
        "vocab_size": WORDS,
        "embedding_size": 20,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    sizes |= {"intermediate_size": 50, "max_position_embeddings": 40, "num_labels": 2}
    return transformers.AlbertConfig(**{**sizes, **changes})


BERT_ENDS = (
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
ALBERT_ENDS = tuple(end for end in BERT_ENDS if end != "ForNextSentencePrediction")

CASES = (
    Case("bert", bert, BERT_ENDS, absolute=True, segments=2),
    Case(
        "bert-untied-relu",
        lambda: bert(hidden_act="relu", tie_word_embeddings=False, layer_norm_eps=1e-3, type_vocab_size=3),
        ("Model", "ForMaskedLM", "ForPreTraining"),
        absolute=True,
        segments=2,
    ),
    Case("bert-decoder", lambda: bert(is_decoder=True), ("LMHeadModel",), absolute=True),
    Case("albert", albert, ALBERT_ENDS, absolute=True, segments=2),
    Case(
        "albert-gelu", lambda: albert(hidden_act="gelu", num_attention_heads=3), ("Model",), absolute=True, segments=2
    ),
)
