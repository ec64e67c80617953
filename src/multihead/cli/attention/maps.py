"""Attention weights of one text. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Maps:
    """Attention of one text.

    Args:
        side: such as "self-attention" or "decoder to encoder". weights: (layers, heads, queries, keys); rows sum to 1.
        queries, keys: texts of the tokens.
    """

    model: str
    side: str
    weights: Tensor
    queries: list[str]
    keys: list[str]
