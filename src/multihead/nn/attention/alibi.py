"""Attention with linear biases: scores fall with distance (Press et al., 2021, arXiv:2108.12409)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..forward_context import ForwardContext
from ..positions import Positions


class Alibi(Positions):
    """Adds slope * key position to the scores; under a softmax this equals minus slope * distance.

    Args:
        slopes: (heads,); in bfloat16 the products are rounded to it, as Falcon's are.
        scale: of what is added.
    """

    def __init__(self, slopes: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.slopes, self.scale = slopes, scale  # derived: no buffer

    def biases(self, count: int) -> tuple[Tensor, bool] | None:
        return self._table(count, torch.device("cpu"))[:, 0].contiguous(), True  # (heads, count)

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        # A bias depends on the key position alone, so the longest sequence's table
        # serves all sequences: (heads, 1, keys).
        longest = context.cached(
            (self, attention_mask.keys), lambda: self._table(attention_mask.keys.longest, q.device)
        )
        # (heads, 1, keys), the same for all queries
        return lambda text: longest[..., : attention_mask.keys.lengths[text]].to(q.dtype)

    def _table(self, keys: int, device: torch.device) -> Tensor:
        """Return the biases of all key positions, (heads, 1, keys)."""
        places = torch.arange(keys, device=device)  # (keys,)
        # (heads, 1, 1) times (keys,). The cast to float32 comes last: Falcon's product is rounded to bfloat16.
        return (self.slopes.to(device)[:, None, None] * places).float() * self.scale


class SymmetricAlibi(Positions):
    """Adds -slope * distance to the scores, of keys before and after a query alike (Jina embeddings v2).

    Args:
        slopes: (heads,).
    """

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.slopes = slopes  # derived: no buffer

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        queries, keys = attention_mask.queries.lengths, attention_mask.keys.lengths
        # (heads, keys, keys) of the longest sequence: all sequences read parts of one table, without a copy
        table = context.cached((self, "table"), lambda: self._table(max(keys, default=0), q.device))

        # (heads, queries, keys); the queries are a sequence's last tokens
        def of(text: int) -> Tensor:
            return table[:, keys[text] - queries[text] : keys[text], : keys[text]].to(q.dtype)

        return of

    def _table(self, count: int, device: torch.device) -> Tensor:
        """Return the biases of all pairs of positions, (heads, count, count)."""
        places = torch.arange(count, device=device)
        distances = (places[:, None] - places).abs()  # (count, count)
        return -self.slopes.to(device)[:, None, None] * distances


def slopes(heads: int) -> Tensor:
    """Return the paper's slopes, (heads,) float32; other counts than powers of two interleave a longer list."""
    whole = 2 ** math.floor(math.log2(heads))  # the largest power of two that is not above `heads`
    first = _powers(whole, torch.arange(1, whole + 1, device="cpu"))  # (whole,)
    if whole == heads:
        return first
    # Every second slope of a list twice as long fills the other heads.
    return torch.cat([first, _powers(2 * whole, torch.arange(1, 2 * (heads - whole), 2, device="cpu"))])


def mpt_slopes(heads: int, most: float) -> Tensor:
    """Return MPT's order of the slopes, (heads,) float32. `most`: exponent of the last slope, 8 in the paper."""
    whole = 2 ** math.ceil(math.log2(heads))  # the smallest power of two that is not below `heads`
    all_ = 1.0 / 2 ** (torch.arange(1, whole + 1, device="cpu").float() * (most / whole))  # (whole,)
    # MPT takes the odd places of the list before the even ones.
    return all_ if whole == heads else torch.cat([all_[1::2], all_[::2]])[:heads]


def _powers(heads: int, exponents: Tensor) -> Tensor:
    return torch.tensor(2.0 ** -(8 / heads), device="cpu") ** exponents  # same shape as `exponents`
