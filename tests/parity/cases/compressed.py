"""Encoders whose deep layers read fewer positions than the text has."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case
from .more_encoders import CLASSIFIERS

CANINE = {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
          "max_position_embeddings": 40, "type_vocab_size": 3, "pad_token_id": 0, "num_labels": 3,
          "num_hash_functions": 4, "num_hash_buckets": 50, "local_transformer_stride": 16}  # fmt: skip


def canine(**changes: Any) -> Any:
    return lambda: transformers.CanineConfig(**{**CANINE, **changes})


def funnel(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "block_sizes": [1, 2, 1], "num_decoder_layers": 2, "d_model": 36, "n_head": 4,
             "d_head": 10, "d_inner": 48, "num_labels": 3}  # fmt: skip
    return lambda: transformers.FunnelConfig(**{**sizes, **changes})


# The reference lets padding into the convolutions and the pooling.
EQUAL = {"lengths": (14, 14, 14), "absolute": True, "segments": 3}
CASES = (
    Case("canine", canine(), ("Model", *CLASSIFIERS), **EQUAL),
    # The reference shows the first block's attentions alone.
    Case("canine-blocks", canine(local_transformer_stride=5, downsampling_rate=3, upsampling_kernel_size=5,
         num_hash_functions=2, hidden_act="relu"), ("Model",), **EQUAL, attentions=False),
    Case("funnel", funnel(), ("Model", "BaseModel", "ForMaskedLM", "ForPreTraining", *CLASSIFIERS), **EQUAL),
    Case("funnel-whole-keys", funnel(pool_q_only=False, attention_type="factorized", truncate_seq=False,
         pooling_type="max", block_repeats=[2, 1, 2], block_sizes=[2, 1, 1]), ("Model",), **EQUAL),
    Case("funnel-even", funnel(separate_cls=False, tie_word_embeddings=False, attention_type="factorized"),
         ("ForMaskedLM",), **EQUAL),
)  # fmt: skip
