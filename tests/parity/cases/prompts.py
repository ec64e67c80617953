"""Decoders that read learned vectors before each text."""

from __future__ import annotations

from typing import Any

import transformers

from ..case import WORDS, Case
from .decoders import FEW


def cpmant(**changes: Any) -> Any:
    sizes = {"vocab_size": WORDS, "hidden_size": 36, "num_attention_heads": 4, "dim_head": 10, "dim_ff": 50}
    prompt = {"prompt_types": 4, "prompt_length": 5, "segment_types": 4, "pad_token_id": 0}
    far = {"position_bias_num_buckets": 16, "position_bias_max_distance": 9}
    return lambda: transformers.CpmAntConfig(**{**sizes, **prompt, **far, "num_hidden_layers": 3, **changes})


CASES = (
    # The reference finds padding at the left alone, and reads all tokens of a pass in both directions, so that no pass
    # gives what chunks or decode steps give: `test_prompts` compares these.
    Case("cpmant", cpmant(), FEW, lengths=(9, 9, 9), chunks=False, greedy=False),
)
