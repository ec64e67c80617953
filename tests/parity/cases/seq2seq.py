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


def longt5(name: str, absolute: bool = False, **changes: Any) -> tuple[Case, ...]:
    """The reference shows the encoder's weights in blocks; where blocks begin depends on padding at the left."""
    make = partial(t5, "LongT5", feed_forward_proj="gated-gelu", **{"local_radius": 3, **changes})
    ends = ("Model", "ForConditionalGeneration")
    return (
        Case(f"longt5-{name}", make, ends, absolute=absolute, left_out=("encoder_attentions",)),
        Case(f"longt5-{name}-encoder", make, ("EncoderModel",), absolute=absolute, attentions=False),
    )


def switch(**changes: Any) -> Any:
    return t5("SwitchTransformers", **{"num_experts": 3, "num_sparse_decoder_layers": 1, **changes})


def bart(kind: str = "Bart", **changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "d_model": 36, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4}
    sizes |= {"decoder_attention_heads": 6, "encoder_ffn_dim": 50, "decoder_ffn_dim": 44, "max_position_embeddings": 64}
    special = {"pad_token_id": 1, "decoder_start_token_id": 7, "eos_token_id": END, "forced_eos_token_id": END}
    return getattr(transformers, f"{kind}Config")(**{**sizes, **special, "num_beams": 1, **changes})


BART_ENDS = ("Model", "ForConditionalGeneration", "ForCausalLM")


def relative(kind: str, ends: tuple[str, ...] = BART_ENDS, name: str = "", **changes: Any) -> Case:
    """A relative of BART; position tables that are computed keep their values."""
    make = partial(bart, kind, **changes)
    return Case(name or kind.lower(), make, ends, absolute=True, fixed=("embed_positions",) * (kind == "Pegasus"))


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
    *longt5("local", local_radius=2, encoder_attention_type="local"),
    *longt5("transient-global", absolute=True, encoder_attention_type="transient-global", global_block_size=4),
    Case("switch", partial(switch, num_sparse_encoder_layers=1), ("Model", "EncoderModel", "ForConditionalGeneration")),
    Case(  # experts overflow: pads take places where they come first, and a chunk is counted anew
        "switch-all-layers-overflowing",
        partial(switch, num_sparse_encoder_layers=3, num_sparse_decoder_layers=2, expert_capacity=2, router_bias=True),
        ("Model", "ForConditionalGeneration"),
        absolute=True,
        chunks=False,
    ),
    Case(  # each side reads a table of its own; `shared`, which nobody reads, has no gradient in the reference
        "switch-untied",
        partial(switch, tie_word_embeddings=False),
        ("Model", "EncoderModel", "ForConditionalGeneration"),
        loss=False,
    ),
    relative("Bart"),
    readers("bart", bart),
    relative("Bart", name="bart-scaled", scale_embedding=True, activation_function="relu"),
    Case(  # the reference's own `shared` words are read by nobody then and have no gradient
        "bart-untied",
        partial(bart, tie_word_embeddings=False),
        BART_ENDS,
        absolute=True,
        loss=False,
    ),
    relative("MBart"),
    readers("mbart", partial(bart, "MBart")),
    relative("PLBart", scale_embedding=True),
    readers("plbart", partial(bart, "PLBart"), READERS[:1]),
    relative("Pegasus"),
    relative("M2M100", BART_ENDS[:2]),
    relative("M2M100", BART_ENDS[:2], name="nllb", scale_embedding=True, activation_function="gelu"),
    relative("Blenderbot"),
    relative("BlenderbotSmall"),
)
