"""Encoders that change what BERT's layers are made of."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case

SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "num_labels": 3,
}
CLASSIFIERS = ("ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering")
ALL = ("Model", "ForMaskedLM", *CLASSIFIERS)


def of(name: str, **changes: Any) -> Any:
    """Makes the reference's config of a family, tiny."""
    return lambda: getattr(transformers, f"{name}Config")(**{**SIZES, **changes})


GENERATION = {k: v for k, v in SIZES.items() if k != "num_labels"}
CASES = (
    Case(
        "convbert",
        of("ConvBert", embedding_size=20, conv_kernel_size=5),
        ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),  # the reference convolves over padding too
    ),
    Case(
        "convbert-wide-embeddings-one-head",
        of("ConvBert", embedding_size=36, conv_kernel_size=3, head_ratio=8, tie_word_embeddings=False),
        ("Model", "ForMaskedLM"),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),
    ),
    Case("bert-generation-encoder", lambda: transformers.BertGenerationConfig(**GENERATION), ("Encoder",),
         stem="BertGeneration", absolute=True),
    Case("bert-generation-decoder", lambda: transformers.BertGenerationConfig(**GENERATION, is_decoder=True),
         ("Decoder",), stem="BertGeneration", absolute=True),
    Case(
        "fnet",
        of("FNet", type_vocab_size=3),
        (*ALL, "ForPreTraining", "ForNextSentencePrediction"),
        absolute=True,
        segments=3,
        attentions=False,
        lengths=(9, 9, 9),  # the reference transforms over padding too,
        half=False,  # and in float32 only
        unused=("pooler",),
    ),
    Case("rembert", of("RemBert", input_embedding_size=20, output_embedding_size=44), ALL, absolute=True, segments=2),
    Case(
        "rembert-decoder",
        of("RemBert", input_embedding_size=20, output_embedding_size=44, is_decoder=True),
        ("ForCausalLM",),
        absolute=True,
    ),
    Case(
        "squeezebert",
        of("SqueezeBert", embedding_size=36, q_groups=2, k_groups=3, v_groups=1, intermediate_groups=4,
           output_groups=2, post_attention_groups=2),
        ALL,
        absolute=True,
        segments=2,
        attentions=False,  # the reference shows scores before the softmax
        unused=("pooler",),
    ),
)  # fmt: skip
