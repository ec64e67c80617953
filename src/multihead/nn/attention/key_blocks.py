"""Block-sparse attention by an index (MiniMax-M3, 2026): small heads choose the blocks of keys that a query sees."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UnsupportedConfig
from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import HybridLayerCache, KVLayerCache
from ..forward_context import ForwardContext
from ..positions import Positions
from ..weights import Linear
from .attention import Attention
from .indexer import SCORES


class BlockIndex(nn.Module):
    """Scores of blocks of keys: the largest q . k within a block, of which the highest are chosen for each head.

    The choice has no gradient, so these parameters have none.

    Args:
        q_norm, k_norm: of (tokens, heads, head width). block: keys of one.
        chosen: blocks of a query and head. local: the query's own block and those before it that are always chosen.
    """

    unpacked: ClassVar = ("q", "k")  # their numbers decide what is chosen

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        *,
        q_norm: nn.Module,
        k_norm: nn.Module,
        block: int,
        chosen: int,
        local: int,
        positions: Positions,
    ) -> None:
        super().__init__()
        if local > chosen:
            raise UnsupportedConfig(f"{local} blocks are always chosen, and {chosen} can be.")
        self.q, self.k = Linear(width, heads * head_width, bias=False), Linear(width, head_width, bias=False)
        self.q_norm, self.k_norm, self.positions = q_norm, k_norm, positions
        self.heads, self.block, self.chosen, self.local = heads, block, chosen, local

    @torch.no_grad()
    def project(self, x: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Return queries (tokens, heads, head width) and keys (tokens, 1, head width), turned by positions."""
        q, k = self.q_norm(self.q(x).unflatten(-1, (self.heads, -1))), self.k_norm(self.k(x)[:, None])
        return self.positions.rotate(q, k, context)

    @torch.no_grad()
    def choose(self, q: Tensor, keys: Tensor) -> Tensor:
        """Return which keys the last queries of a sequence see, (heads, queries, keys), later keys perhaps included.

        Args:
            q: (queries, heads, head width). keys: (keys, head width).
        """
        count, blocks = keys.shape[0], -(-keys.shape[0] // self.block)
        places = torch.arange(count - q.shape[0], count, device=q.device)  # positions of the queries
        scores = torch.einsum("qhd,kd->hqk", q.float(), keys.float())
        later = torch.arange(count, device=q.device) > places[:, None]  # (queries, keys)
        scores = F.pad(scores.masked_fill(later, -torch.inf), (0, blocks * self.block - count), value=-torch.inf)
        best = scores.unflatten(-1, (blocks, self.block)).amax(-1)  # (heads, queries, blocks)
        for back in range(self.local):
            near = (places // self.block - back).clamp(min=0)[None, :, None].expand(self.heads, -1, -1)
            best = best.scatter(-1, near, torch.inf)
        top = best.topk(min(self.chosen, blocks), -1)
        seen = torch.zeros_like(best, dtype=torch.bool).scatter(-1, top.indices, top.values > -torch.inf)
        return seen.repeat_interleave(self.block, -1)[..., :count]


class BlockIndexedAttention(Attention):
    """Attention to the blocks of keys that an index chooses for each group of heads."""

    def __init__(self, width: int, heads: int, *, index: BlockIndex, **options: Any) -> None:
        super().__init__(width, heads, causal=True, **options)
        if heads % index.heads:
            raise UnsupportedConfig(f"{heads} attention heads cannot share {index.heads} index heads evenly.")
        self.index, self.q_heads = index, heads

    def memory(self) -> Any:
        return HybridLayerCache(KVLayerCache(), KVLayerCache())

    def _heads(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        q, k, v = self._project(x)
        q, k = self.positions.rotate(q, k, context)
        asking, asked = self.index.project(x, context)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.first.extend(k, v, context)
            asked, _, _ = memory.second.extend(asked, asked[..., :0], context)
        if runs.longest <= self.index.chosen * self.index.block:  # all blocks are chosen
            mask = context.attention_mask(runs, causal=True, window=None)
            return self._mix(q, k, v, mask, None, context, context.capture.attentions)
        mask = self._parts(context, runs)
        record = context.capture.attentions
        return self._mix(q, k, v, mask, self._hiding(asking, asked[:, 0], mask, q.dtype), context, record)

    def _parts(self, context: ForwardContext, runs: SequenceLayout) -> AttentionMask:
        """Return the queries of each sequence in parts, whose scores can be held at once, and the keys before them."""
        queries, keys = [], []
        for begin, own, first, count in zip(
            context.runs.begins, context.runs.lengths, runs.begins, runs.lengths, strict=True
        ):
            # Shown weights are a matrix a sequence.
            whole = context.capture.attentions is not None
            step = max(own, 1) if whole else max(1, SCORES // (self.q_heads * max(count, 1)))
            for start in range(0, max(own, 1), step):
                part = min(step, own - start)
                queries.append((begin + start, part))
                keys.append((first, count - own + start + part))
        asked, seen = (SequenceLayout(*zip(*rows, strict=True)) for rows in (queries, keys))
        return AttentionMask(asked, seen, causal=True)

    def _hiding(self, q: Tensor, keys: Tensor, mask: AttentionMask, dtype: torch.dtype) -> Bias:
        """Return the bias that hides the keys that are not chosen."""
        groups = self.q_heads // self.index.heads

        def of(part: int) -> Tensor:
            begin, count = mask.queries.begins[part], mask.queries.lengths[part]
            first, length = mask.keys.begins[part], mask.keys.lengths[part]
            seen = self.index.choose(q[begin : begin + count], keys[first : first + length])
            hidden = torch.zeros(seen.shape, dtype=dtype, device=q.device).masked_fill(~seen, torch.finfo(dtype).min)
            return hidden.repeat_interleave(groups, 0)  # (heads, queries, keys)

        return of
