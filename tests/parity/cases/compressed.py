"""Encoders whose deep layers read fewer positions than the text has."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import Case
from .more_encoders import CLASSIFIERS

CANINE = {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
          "max_position_embeddings": 40, "type_vocab_size": 3, "pad_token_id": 0, "num_labels": 3,
          "num_hash_functions": 4, "num_hash_buckets": 50, "local_transformer_stride": 16}  # fmt: skip


def canine(**changes: Any) -> Any:
    return lambda: transformers.CanineConfig(**{**CANINE, **changes})


# The reference lets padding into the convolutions.
EQUAL = {"lengths": (14, 14, 14), "absolute": True, "segments": 3}
CASES = (
    Case("canine", canine(), ("Model", *CLASSIFIERS), **EQUAL),
    # The reference shows the first block's attentions alone.
    Case("canine-blocks", canine(local_transformer_stride=5, downsampling_rate=3, upsampling_kernel_size=5,
         num_hash_functions=2, hidden_act="relu"), ("Model",), **EQUAL, attentions=False),
)  # fmt: skip
