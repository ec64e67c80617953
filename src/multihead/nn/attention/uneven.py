"""Attention whose values have another width than its queries and keys."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..weights import Linear
from .attention import Attention


class UnevenAttention(Attention):
    """Self-attention whose values have their own width, and are scaled (MiMo-V2).

    Args:
        value_width: of a head's values. value_scale: they are multiplied by it.
    """

    pages = False

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        key_heads: int,
        value_width: int,
        value_scale: float = 1.0,
        bias: bool = False,
        out_bias: bool = False,
        **options: Any,
    ) -> None:
        parts = {
            "v": Linear(width, key_heads * value_width, bias=bias),
            "out": Linear(heads * value_width, width, bias=out_bias),
        }
        super().__init__(width, heads, key_heads=key_heads, bias=bias, projections=parts, **options)
        self.value_width, self.value_scale = value_width, value_scale

    def _shape(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split queries and keys into (tokens, heads, head width), values into (tokens, key heads, value width)."""
        v = v.unflatten(-1, (-1, self.value_width)) * self.value_scale
        return self.q_norm(self._split(q)), self.k_norm(self._split(k)), v
