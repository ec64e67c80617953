"""Block-sparse visibility: near blocks of keys, and every n-th block of those before (Child et al., 2019,
arXiv:1904.10509; Phi-3-small, arXiv:2404.14219)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..forward_context import ForwardContext
from ..positions import Rotary


class BlockSparseRotary(Rotary):
    """Rotary positions whose queries see only some blocks of keys.

    Args:
        block: tokens of a block. near: blocks that a query sees, its own and those just before it.
        stride: of the blocks before them that it sees: where (block + 1 + head * step) is a multiple of it.
        heads: of queries. step: 0 where all heads see the same blocks.
    """

    def __init__(self, *args: Any, block: int, near: int, stride: int, heads: int, step: int) -> None:
        super().__init__(*args)
        self.block, self.near, self.stride, self.heads, self.step = block, near, stride, heads, step

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        """Return minus infinity for hidden keys (heads, queries, keys) of each sequence; None where none is hidden."""
        if max(attention_mask.keys.lengths, default=0) <= self.block * self.near:
            return None

        def of(sequence: int) -> Tensor:
            queries, keys = attention_mask.queries.lengths[sequence], attention_mask.keys.lengths[sequence]
            blocks = torch.arange(keys, device=q.device) // self.block  # (keys,)
            far = blocks[keys - queries :, None] - blocks >= self.near  # (queries, keys)
            shifts = self.step * torch.arange(self.heads, device=q.device)[:, None]  # (heads, 1)
            skipped = (blocks + 1 + shifts) % self.stride != 0  # (heads, keys)
            hidden = far & skipped[:, None]  # (heads, queries, keys)
            return torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill(hidden, -torch.inf)

        return of
