"""The heads that each Auto class loads. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from ..models.common.registry import architecture

# Head suffixes that each Auto class loads; the first that a family has is taken. Those of images and other inputs load
# the language model of a multimodal checkpoint.
AUTO_CLASSES: Mapping[str, tuple[str, ...]] = {
    "AutoModel": ("Model",),
    "AutoModelForTextEncoding": ("EncoderModel", "Model"),
    "AutoModelForPreTraining": (
        *("ForPreTraining", "ForMaskedLM", "ForConditionalGeneration", "MTModel"),
        *("LMHeadModel", "WithLMHeadModel", "ForCausalLM"),
    ),
    "AutoModelForMaskedLM": ("ForMaskedLM", "WithLMHeadModel"),
    "AutoModelForCausalLM": ("ForCausalLM", "LMHeadModel", "WithLMHeadModel"),
    "AutoModelForImageTextToText": ("ForCausalLM", "LMHeadModel", "WithLMHeadModel", "ForConditionalGeneration"),
    "AutoModelForMultimodalLM": ("ForCausalLM", "LMHeadModel", "WithLMHeadModel", "ForConditionalGeneration"),
    "AutoModelForSeq2SeqLM": ("ForConditionalGeneration", "MTModel"),
    "AutoModelForSequenceClassification": ("ForSequenceClassification",),
    "AutoModelForTokenClassification": ("ForTokenClassification",),
    "AutoModelForQuestionAnswering": ("ForQuestionAnsweringSimple", "ForQuestionAnswering"),
    "AutoModelForTableQuestionAnswering": ("ForQuestionAnswering",),
    "AutoModelForMultipleChoice": ("ForMultipleChoice",),
    "AutoModelForNextSentencePrediction": ("ForNextSentencePrediction",),
}
# (Auto class, model_type) -> head suffix of families that have none of those: BART learned by filling gaps.
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("AutoModel", "dpr"): "QuestionEncoder",
    ("AutoModelForMaskedLM", "bart"): "ForConditionalGeneration",
    ("AutoModelForMaskedLM", "mbart"): "ForConditionalGeneration",
    ("AutoModelForMaskedLM", "mvp"): "ForConditionalGeneration",
}


def head_suffix(auto: str, model_type: str) -> str | None:
    """Return the head suffix that an Auto class loads for a family; None where the family has no such head."""
    heads = architecture(model_type).heads
    suffixes = (*AUTO_CLASSES[auto], EXCEPTIONS.get((auto, model_type)))
    return next((suffix for suffix in suffixes if suffix in heads), None)
