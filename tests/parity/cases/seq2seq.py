"""Encoder-decoders: T5, BART and their relatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers

from ..case import WORDS, Case

END = 2  # of a text, in the configs here


def ended(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Ids whose texts end with the end token, at which classifiers of texts read their state, and nowhere else."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    ids = torch.where((ids == END) & (mask > 0), 5, ids)
    last = torch.where(mask.bool(), torch.arange(ids.shape[1]), -1).argmax(1)
    ids[torch.arange(len(ids)), last] = END
    return {"input_ids": ids}


def own_scores(model: Any, end: str) -> None:
    """A scoring matrix apart from the embeddings, whatever the config says."""
    if end == "ForConditionalGeneration":
        model.lm_head.weight = torch.nn.Parameter(torch.randn(WORDS, model.config.d_model))


def t5(kind: str = "T5", **changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "d_model": 36, "d_kv": 10, "d_ff": 50, "num_layers": 3, "num_decoder_layers": 2}
    sizes |= {"num_heads": 4, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 7}
    special = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": END}
    return getattr(transformers, f"{kind}Config")(**{**sizes, **special, "num_beams": 1, **changes})


T5_ENDS = ("Model", "EncoderModel", "ForConditionalGeneration", "ForTokenClassification")
READERS = ("ForSequenceClassification", "ForQuestionAnswering")  # their target is the source, shifted


def readers(name: str, make: Any, ends: tuple[str, ...] = READERS) -> Case:
    """Absolute: the reference's decoder reads pads on the left as words."""
    return Case(f"{name}-source-as-target", make, ends, absolute=True, extra=ended)


CASES = (
    Case("t5", t5, T5_ENDS),
    readers("t5", t5),
    Case(
        "t5-1.1-gated-unscaled",
        partial(t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=None),
        ("Model", "ForConditionalGeneration"),
    ),
    Case(
        "t5-own-scores",
        partial(t5, feed_forward_proj="gated-silu", tie_word_embeddings=False),
        ("ForConditionalGeneration",),
        altered=own_scores,
    ),
    Case(
        "t5-own-scores-said-to-be-tied",
        partial(t5, feed_forward_proj="gelu"),
        ("ForConditionalGeneration",),
        altered=own_scores,
    ),
    Case("mt5", partial(t5, "MT5"), T5_ENDS),
    readers("mt5", partial(t5, "MT5")),
    Case("mt5-own-scores", partial(t5, "MT5"), ("ForConditionalGeneration",), altered=own_scores),
    Case("umt5", partial(t5, "UMT5"), T5_ENDS),
    readers("umt5", partial(t5, "UMT5")),
    Case("umt5-own-scores", partial(t5, "UMT5"), ("ForConditionalGeneration",), altered=own_scores),
)
