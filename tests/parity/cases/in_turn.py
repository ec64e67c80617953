"""Decoders whose layers run several times in a pass."""

from __future__ import annotations

from ..case import Case
from .decoders import FEW, of

HRM = {"num_hidden_layers": 2, "head_dim": 8, "num_key_value_heads": None, "embedding_scale": 3.0}
CASES = (
    Case("hrm-text", of("HrmText", **HRM), FEW, std=0.15),
    Case("hrm-text-prefix", of("HrmText", **{**HRM, "embedding_scale": None}, H_cycles=3, L_cycles=2,
         L_bp_cycles=[2, 1], tie_word_embeddings=True), ("Model",), segments=2),
)  # fmt: skip
