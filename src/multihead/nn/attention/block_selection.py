"""Sparse attention by compressed keys: an index of blocks chooses what a query sees (Qwen4-Exp's QSA, 2026)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import UnsupportedConfig
from ...kernels.ragged import AttentionMask
from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from ..norms import WideRMSNorm
from ..positions import Rotary, RotaryByLength
from ..weights import Linear
from .gated import GatedAttention
from .indexer import SCORES, chosen_rows, hiding, keys_of_blocks


class BlockIndexer(nn.Module):
    """Scores of blocks of keys by small heads; a query sees the best whole blocks, and what follows the last one.

    A block's key is the mean of its tokens'. A score is the sum over the heads of relu(q . k). The choice has no
    gradient, so these parameters have none.

    Args:
        positions: turn queries at their places and blocks at their first token's.
        block: tokens of one. chosen: blocks of a query.
    """

    unpacked: ClassVar = ("both",)  # its numbers decide what is chosen

    def __init__(
        self, width: int, *, heads: int, head_width: int, block: int, chosen: int, eps: float, positions: Rotary
    ) -> None:
        super().__init__()
        if isinstance(positions, RotaryByLength):
            raise UnsupportedConfig("Blocks of keys are chosen with rotary positions that do not depend on a length.")
        self.both = Linear(width, (heads + 1) * head_width, bias=False)  # queries, then one key
        self.q_norm, self.k_norm = (WideRMSNorm(head_width, eps, centre=1.0) for _ in "qk")
        self.head_width, self.block, self.chosen, self.positions = head_width, block, chosen, positions

    @torch.no_grad()
    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (tokens, heads, index width) and keys (tokens, 1, index width), not normed or turned."""
        both = self.both(x).unflatten(-1, (-1, self.head_width))
        return both[:, :-1], both[:, -1:]

    @torch.no_grad()
    def choose(self, q: Tensor, keys: Tensor, attention_mask: AttentionMask) -> Tensor | None:
        """Return which keys of its sequence each token sees, (tokens, longest keys); None for all.

        Args:
            q: (tokens, heads, index width). keys: of all rows, (rows, index width).
        """
        queries, layout = attention_mask.queries, attention_mask.keys
        if layout.longest // self.block <= self.chosen:
            return None
        q = self.q_norm(q)
        seen = torch.ones(q.shape[0], layout.longest, dtype=torch.bool, device=q.device)
        for begin, count, first, tokens in zip(
            layout.begins, layout.lengths, queries.begins, queries.lengths, strict=True
        ):
            if count // self.block > self.chosen:
                chosen = self._best(q[first : first + tokens], keys[begin : begin + count])
                seen[first : first + tokens, :count] = chosen
        return seen

    def _best(self, q: Tensor, keys: Tensor) -> Tensor:
        """Return the keys of one sequence that its last tokens see, (queries, keys)."""
        count, tokens, blocks = len(keys), len(q), len(keys) // self.block
        places = torch.arange(count - tokens, count, device=q.device)  # (queries,)
        means = keys[: blocks * self.block].unflatten(0, (blocks, -1)).float().mean(1).to(keys.dtype)
        begins = torch.arange(blocks, device=q.device) * self.block  # (blocks,)
        k = self.positions.turned(self.k_norm(means)[:, None], begins)[:, 0].float().t()  # (index width, blocks)
        q = self.positions.turned(q, places).float()  # (queries, heads, index width)
        step, parts = max(1, SCORES // (q.shape[1] * blocks)), []
        for start in range(0, tokens, step):
            scores = torch.relu(q[start : start + step] @ k).sum(1) * self.head_width**-0.5  # (queries, blocks)
            whole = (places[start : start + step, None] + 1) // self.block > begins // self.block  # (queries, blocks)
            best = scores.masked_fill(~whole, -torch.inf).topk(self.chosen, -1).indices
            parts.append(torch.zeros_like(whole).scatter(1, best, True) & whole)
        return keys_of_blocks(torch.cat(parts), places, self.block, count)


class BlockSelectedAttention(GatedAttention):
    """Gated attention to the keys that a `BlockIndexer` chooses; the cache keeps its keys behind each token's own."""

    def __init__(self, width: int, heads: int, *, selection: BlockIndexer, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.selection = selection

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        both, k, v = self._products(x)
        q, gate = both.unflatten(-1, (-1, 2, self.head_width)).unbind(-2)  # (tokens, heads, head width) each
        q, k, v = self._shape(q.flatten(-2), k, v)
        q, k = self.positions.rotate(q, k, context)
        asked, index = self.selection.project(x)  # (tokens, index heads, index width), (tokens, 1, index width)
        runs = context.runs
        if memory is not None:
            held, v, runs = memory.extend(torch.cat([k.flatten(1)[:, None], index], -1), v, context)
            keys, index = held.split((k.shape[1] * k.shape[2], index.shape[-1]), -1)  # (rows, 1, ...) each
            k = keys[:, 0].unflatten(-1, (-1, self.head_width))  # (rows, key heads, head width)
        attention_mask, bias = context.attention_mask(runs, causal=True, window=None), None
        chosen = self.selection.choose(asked, index[:, 0], attention_mask)
        if chosen is not None and attention_mask.queries.longest == 1 and context.capture.attentions is None:
            rows, attention_mask = chosen_rows(chosen, attention_mask)  # read the chosen rows alone
            k, v = k[rows], v[rows]
        elif chosen is not None:
            bias = hiding(chosen, attention_mask, q.dtype)
        heads = self._mix(q, k, v, attention_mask, bias, context, context.capture.attentions)
        return self.out((heads * torch.sigmoid(gate)).flatten(1))
