"""Encoders that see what is near and a few tokens from everywhere."""

from __future__ import annotations

from typing import Any

import torch

from ..case import Case
from .more_encoders import of
from .seq2seq import bart

LONG = (40, 23, 5)
# The reference's weights are by distance, not by place.
SHOWN: dict[str, Any] = {"left_out": ("encoder_attentions", "encoder_global_attentions")}


def longformer(**changes: Any) -> Any:
    sizes = {"max_position_embeddings": 80, "attention_window": 6, "pad_token_id": 1, "sep_token_id": 2}
    return of("Longformer", **{**sizes, **changes})


def separated(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Ids with three separators a text."""
    ids = torch.where(inputs["input_ids"] == 2, 3, inputs["input_ids"])
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        ids[row, [2, 3, length - 1]] = 2
    return {"input_ids": ids}


def marked(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Some global tokens in the first two texts, none in the third."""
    marks = torch.zeros_like(inputs["input_ids"])
    marks[0, [0, 3, marks.shape[1] // 2]] = 1
    marks[1, [1]] = 1
    return {"global_attention_mask": marks}


def case(name: str, make: Any, *ends: str, **more: Any) -> Case:
    """The reference shows weights by distance, not by place."""
    return Case(name, make, ends, absolute=True, segments=2, lengths=LONG, attentions=False, **more)


def led(**changes: Any) -> Any:
    sizes = {"max_encoder_position_embeddings": 80, "max_decoder_position_embeddings": 64, "attention_window": 6}
    return lambda: bart("LED", **{**sizes, **changes})


def bird(**changes: Any) -> Any:
    sizes = {"max_position_embeddings": 80, "block_size": 3, "num_random_blocks": 2, "sep_token_id": 2}
    return of("BigBird", **{**sizes, **changes})


def separators(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Ids with two separators a text."""
    ids = inputs["input_ids"].clone()
    ids[:, [2, ids.shape[1] * 3 // 4]] = 2
    return {"input_ids": ids}


BIRD = ("Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForMultipleChoice",
        "ForTokenClassification")  # fmt: skip
EVEN = (42, 42, 42)  # the reference chooses between sparse and full by the padded length
SPARSE: dict[str, Any] = {"absolute": True, "attentions": False, "unused": ("pooler",)}  # it shows other weights then
CASES = (
    case("longformer", longformer(), "Model", "ForMaskedLM", "ForTokenClassification", extra=marked),
    case("longformer-windows", longformer(attention_window=[4, 8, 4]), "Model", "ForMaskedLM"),
    case("longformer-first-token", longformer(), "ForSequenceClassification"),
    case("longformer-questions", longformer(), "ForQuestionAnswering", "ForMultipleChoice", extra=separated),
    Case("big-bird", bird(), BIRD, lengths=EVEN, segments=2, loss=False, **SPARSE),
    Case("big-bird-last-block-in-part", bird(), ("Model",), lengths=(40, 40, 40), hidden=False, **SPARSE),
    Case(
        "big-bird-other-blocks",
        bird(block_size=4, num_random_blocks=1, use_bias=False, rescale_embeddings=True, tie_word_embeddings=False),
        ("Model", "ForMaskedLM"),
        lengths=(40, 40, 40),
        segments=2,
        loss=False,
        **SPARSE,
    ),
    Case("big-bird-short", bird(), BIRD, segments=2, **SPARSE),
    Case(
        "big-bird-full",
        bird(attention_type="original_full"),
        BIRD,
        absolute=True,
        segments=2,
        unused=("pooler",),
    ),
    Case(
        "big-bird-decoder",
        bird(attention_type="original_full", is_decoder=True),
        ("ForCausalLM",),
        absolute=True,
        unused=("pooler",),
    ),
    Case("big-bird-questions", bird(), ("ForQuestionAnswering",), lengths=EVEN, extra=separators, loss=False, **SPARSE),
    Case("big-bird-short-questions", bird(), ("ForQuestionAnswering",), extra=separators, **SPARSE),
    Case("led", led(), ("Model", "ForConditionalGeneration"), absolute=True, lengths=LONG, extra=marked, **SHOWN),
    Case(
        "led-untied",
        led(tie_word_embeddings=False),
        ("Model", "ForConditionalGeneration"),
        absolute=True,
        lengths=LONG,
        extra=marked,
        loss=False,
        **SHOWN,
    ),
    Case("led-windows", led(attention_window=[4, 8, 4]), ("Model",), absolute=True, lengths=LONG, **SHOWN),
    Case("led-source-as-target", led(), ("ForQuestionAnswering",), absolute=True, lengths=LONG, **SHOWN),
)
