"""Doge: attention masks that are computed from the values."""

from __future__ import annotations

import torch

from ..case import WORDS, Case
from .decoders import FEW, of


def distinct(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """Words that come once: those that come twice tie in the first layer, where the reference keeps any of them."""
    texts, longest = inputs["input_ids"].shape
    order = torch.stack([torch.randperm(WORDS - 2)[:longest] + 1 for _ in range(texts)])
    return {"input_ids": order.masked_fill(inputs["attention_mask"] == 0, 0)}


BIASED = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 8}
CASES = (
    Case("doge", of("Doge"), (*FEW, "ForSequenceClassification")),
    Case("doge-window", of("Doge", sliding_window=5, **BIASED), ("ForCausalLM",)),
    # In half precision, which keys are kept is a matter of rounding.
    Case("doge-kept", of("Doge", keep_window_size=4), ("Model",), extra=distinct, half=False),
    Case("doge-kept-window", of("Doge", keep_window_size=3, sliding_window=5, **BIASED), ("Model",), extra=distinct,
         lengths=(19, 7, 4), half=False),
)  # fmt: skip
