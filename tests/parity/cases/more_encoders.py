"""Encoders that change what BERT's layers are made of."""

from __future__ import annotations

from typing import Any

import torch
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


ROBERTA = (*ALL, "ForCausalLM")
DISTIL = {"dim": 36, "n_layers": 3, "n_heads": 4, "hidden_dim": 50, "max_position_embeddings": 40}


def roberta(name: str, **changes: Any) -> Any:
    return of(name, **{"type_vocab_size": 2, **changes})


def asked(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Ids with one question token in the first text and two in the others."""
    ids = torch.where(inputs["input_ids"] == 7, 8, inputs["input_ids"])
    ids[:, 2] = 7
    ids[1:, 3] = 7
    return {"input_ids": ids}


def masked(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Ids with mask tokens, in one text none."""
    ids = torch.where(inputs["input_ids"] == 98, 8, inputs["input_ids"])
    ids[:2, 1] = 98
    ids[1, 4] = 98
    return {"input_ids": ids}


def protein(**changes: Any) -> Any:
    return of("Esm", **{"mask_token_id": 98, "pad_token_id": 1, "num_attention_heads": 6, **changes})


PROTEIN = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
GENERATION = {k: v for k, v in SIZES.items() if k != "num_labels"}
CASES = (
    Case("roberta", roberta("Roberta", pad_token_id=1), ALL, absolute=True, segments=2),
    Case("roberta-decoder", roberta("Roberta", is_decoder=True, pad_token_id=1), ("ForCausalLM",), absolute=True),
    Case("roberta-untied", roberta("Roberta", tie_word_embeddings=False, pad_token_id=1), ("ForMaskedLM",),
         absolute=True, segments=2),
    Case("xlm-roberta", roberta("XLMRoberta", pad_token_id=1, type_vocab_size=1), ALL, absolute=True),
    Case("camembert", roberta("Camembert", pad_token_id=1), ALL, absolute=True, segments=2),
    Case("mpnet", of("MPNet", pad_token_id=1), ALL, absolute=True),
    Case("mpnet-wide-table", of("MPNet", pad_token_id=1, relative_attention_num_buckets=40), ("Model",), absolute=True),
    Case("distilbert", lambda: transformers.DistilBertConfig(vocab_size=WORDS, num_labels=3, **DISTIL), ALL,
         absolute=True),
    Case("distilbert-relu-untied", lambda: transformers.DistilBertConfig(vocab_size=WORDS, activation="relu",
         tie_word_embeddings=False, **DISTIL), ("Model", "ForMaskedLM"), absolute=True),
    Case("electra", of("Electra", embedding_size=20), (*ALL, "ForPreTraining"), absolute=True, segments=2),
    Case("electra-wide", of("Electra", embedding_size=36, tie_word_embeddings=False), ("Model", "ForMaskedLM"),
         absolute=True, segments=2),
    Case("electra-decoder", of("Electra", embedding_size=20, is_decoder=True), ("ForCausalLM",), absolute=True),
    Case(
        "convbert",
        of("ConvBert", embedding_size=20, conv_kernel_size=5),
        ("Model", "ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice", "ForTokenClassification",
         "ForQuestionAnswering"),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),  # the reference convolves over padding too
    ),
    Case(
        "convbert-choices-projected",
        of("ConvBert", summary_type="first", summary_use_proj=True, summary_activation="gelu"),
        ("ForMultipleChoice",),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),
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
    Case("splinter", of("Splinter"), ("Model", "ForQuestionAnswering"), absolute=True, segments=2, tolerance=5e-5),
    Case("splinter-questions", of("Splinter", question_token_id=7), ("ForQuestionAnswering",), absolute=True,
         segments=2, extra=asked, tolerance=5e-5),
    Case("splinter-pretraining", of("Splinter", question_token_id=7), ("ForPreTraining",), absolute=True, segments=2,
         extra=asked, loss=False, lengths=(9, 9, 9), tolerance=5e-5),
    Case(
        "mobilebert",
        of("MobileBert", embedding_size=20, intra_bottleneck_size=24, num_feedforward_networks=3),
        (*ALL, "ForPreTraining", "ForNextSentencePrediction"),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),  # the reference reads padding as the last word's neighbour
    ),
    Case(
        "mobilebert-unpooled",
        of("MobileBert", embedding_size=20, intra_bottleneck_size=24, num_feedforward_networks=1,
           classifier_activation=False),
        ("Model", "ForSequenceClassification", "ForNextSentencePrediction"),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),
    ),
    Case(
        "mobilebert-layer-norms",
        of("MobileBert", embedding_size=12, intra_bottleneck_size=24, num_feedforward_networks=1,
           normalization_type="layer_norm", tie_word_embeddings=False),
        ("Model", "ForMaskedLM"),
        absolute=True,
        segments=2,
        lengths=(9, 9, 9),
    ),
    Case("esm-1b", protein(emb_layer_norm_before=True), PROTEIN, absolute=True),
    Case("esm-2", protein(position_embedding_type="rotary", token_dropout=True), PROTEIN, absolute=True, extra=masked,
         unused=("inv_freq",)),
)  # fmt: skip
