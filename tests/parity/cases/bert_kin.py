"""BERT's nearer relatives: other norms, positions, gates, and additional inputs."""

from __future__ import annotations

from typing import Any

import torch

from ..case import Case
from .more_encoders import ALL, of, roberta
from .rotary_encoders import of as rotary

BERT = (*ALL, "ForPreTraining", "ForNextSentencePrediction")
SMALL = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
NAMES = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LANGUAGES = {"languages": ["en_XX", "de_DE", "sw_KE"], "pad_token_id": 1}


def tasks(inputs: dict[str, torch.Tensor], end: str) -> dict[str, Any]:
    """Tasks of tokens; the reference does not flatten those of choices."""
    return {} if end == "ForMultipleChoice" else {"task_type_ids": torch.randint(0, 3, inputs["input_ids"].shape)}


def languages(inputs: dict[str, torch.Tensor], end: str) -> dict[str, Any]:
    return {"lang_ids": torch.tensor([2, 0, 2])} if end != "ForMultipleChoice" else {}


CASES = (
    Case("eurobert", rotary("EuroBert", num_key_value_heads=2, **NAMES), SMALL),
    Case(
        "eurobert-first-token-biases",
        rotary("EuroBert", classifier_pooling="bos", mlp_bias=True, attention_bias=True, head_dim=8, **NAMES),
        ("ForMaskedLM", "ForSequenceClassification"),
        absolute=True,
    ),
    Case(
        "eurobert-means-tied",
        rotary("EuroBert", classifier_pooling="mean", tie_word_embeddings=True, **NAMES),
        ("ForMaskedLM", "ForSequenceClassification"),
    ),
    Case("gte", rotary("Gte", type_vocab_size=2), ("Model", "ForMaskedLM", "ForTokenClassification"), segments=2),
    Case("gte-without-types", rotary("Gte", type_vocab_size=0), ("ForSequenceClassification",), absolute=True),
    Case(
        "jina-v3",
        rotary("JinaEmbeddingsV3", type_vocab_size=2),
        ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
        absolute=True,
        segments=2,
    ),
    Case("megatron-bert", of("MegatronBert"), BERT, absolute=True, segments=2),
    Case("megatron-bert-decoder", of("MegatronBert", is_decoder=True), ("ForCausalLM",), absolute=True),
    Case("xlm-roberta-xl", roberta("XLMRobertaXL", pad_token_id=1), ALL, absolute=True, segments=2),
    Case(
        "xlm-roberta-xl-decoder",
        roberta("XLMRobertaXL", pad_token_id=1, is_decoder=True),
        ("ForCausalLM",),
        absolute=True,
        greedy=False,  # the reference's `generate` counts positions from 0, its `forward` from 2
    ),
    Case("roberta-prelayernorm", roberta("RobertaPreLayerNorm", pad_token_id=1), ALL, absolute=True, segments=2),
    Case(
        "roberta-prelayernorm-decoder",
        roberta("RobertaPreLayerNorm", pad_token_id=1, is_decoder=True),
        ("ForCausalLM",),
        absolute=True,
        greedy=False,  # as above
    ),
    Case("data2vec-text", roberta("Data2VecText", pad_token_id=1), ALL, absolute=True, segments=2),
    Case("ernie", of("Ernie", use_task_id=True), BERT, absolute=True, segments=2, extra=tasks),
    Case("ernie-decoder", of("Ernie", is_decoder=True), ("ForCausalLM",), absolute=True),
    Case("xmod", roberta("Xmod", default_language="de_DE", **LANGUAGES), ALL, absolute=True, segments=2,
         extra=languages),
    Case("xmod-pre-norm", roberta("Xmod", default_language="en_XX", pre_norm=True, adapter_layer_norm=True,
         ln_before_adapter=False, **LANGUAGES), ("Model",), absolute=True),
    Case("xmod-plain-adapters", roberta("Xmod", default_language="en_XX", adapter_reuse_layer_norm=False,
         ln_before_adapter=False, **LANGUAGES), ("Model",), absolute=True),
    Case("xmod-decoder", roberta("Xmod", default_language="sw_KE", is_decoder=True, **LANGUAGES), ("ForCausalLM",),
         absolute=True, greedy=False),  # as above
    Case("dpr", of("DPR"), ("QuestionEncoder", "ContextEncoder"), absolute=True, segments=2),
    Case("dpr-reader", of("DPR"), ("Reader",), absolute=True),
    Case("dpr-projected", of("DPR", projection_dim=20), ("QuestionEncoder", "ContextEncoder"), absolute=True),
)  # fmt: skip
