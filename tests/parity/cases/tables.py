"""TAPAS, whose tokens have seven types."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers

from ..case import WORDS, Case

SIZES = (3, 9, 9, 2, 9, 9, 10)


def tapas(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4, "num_labels": 3}
    sizes |= {"intermediate_size": 50, "max_position_embeddings": 64, "type_vocab_sizes": SIZES}
    return transformers.TapasConfig(**{**sizes, "max_num_rows": 5, "max_num_columns": 4, **changes})


def types(inputs: dict[str, torch.Tensor], end: str) -> dict[str, torch.Tensor]:
    """A question of three tokens, then cells of one or two tokens."""
    torch.manual_seed(4)
    ids = inputs["input_ids"]
    found = torch.stack([torch.randint(0, size, ids.shape) for size in SIZES], -1)
    places = torch.arange(ids.shape[1])
    found[..., 0], found[..., 1] = 1, (places - 3) // 2 % 3 + 1
    found[..., 2] = (places - 3) // 6
    found[:, :3] = 0
    return {"token_type_ids": found * inputs["attention_mask"][..., None]}


CASES = (
    Case("tapas", tapas, ("Model", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering"), absolute=True,
         extra=types),
    Case("tapas-aggregations", partial(tapas, num_aggregation_labels=4, temperature=0.7, max_num_columns=3,
                                       reset_position_index_per_cell=False, aggregation_labels={0: "NONE", 1: "SUM"}),
         ("ForQuestionAnswering",), absolute=True, extra=types),
)  # fmt: skip
