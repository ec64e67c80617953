"""Sparse attention by an index (DeepSeek-V3.2, 2025): small learned scores choose the keys that a query sees."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..forward_context import ForwardContext
from ..positions import Positions
from ..weights import LayerNorm, Linear
from .query_scale import LearnedLogScale

SCORES = 1 << 26  # scores of single heads that are held at once


class Selection(nn.Module):
    """The keys that each query sees, as a layer before has chosen them (GLM-5, arXiv:2603.12201).

    Args:
        source: number of the layer that chooses.
    """

    reads_factor: ClassVar = False  # True if the queries' low-rank factor is needed

    def __init__(self, source: int) -> None:
        super().__init__()
        self.source = source

    def keys(self, x: Tensor, context: ForwardContext) -> Tensor | None:
        """Return what the cache keeps of each token for later choices, (tokens, 1, index width); None for nothing."""
        return None

    def choose(
        self, x: Tensor, narrow: Tensor | None, keys: Tensor, attention_mask: AttentionMask, context: ForwardContext
    ) -> Tensor | None:
        """Return which keys of its sequence each token may see, (tokens, longest keys); None for all.

        Args:
            x: states (tokens, width). narrow: the queries' low-rank factor (tokens, query rank), where there is one.
            keys: of all rows, (rows, 1, index width).
        """
        chosen: Tensor | None = context.shared(("selection", self.source))
        return chosen


class Indexer(Selection):
    """Scores of all keys by a few small heads, of which the highest are chosen.

    A score is the sum over the heads of relu(q . k), times a weight of the head that the query's state decides. The
    choice has no gradient, so these parameters have none.

    Args:
        rank: of the queries' low-rank factor. head_width: of which the first channels are turned by `positions`.
        chosen: keys of a query. last: how many of the last channels are turned instead (Hy4).
    """

    reads_factor: ClassVar = True
    unpacked: ClassVar[tuple[str, ...]] = ("q", "k", "weights")  # their numbers decide what is chosen

    def __init__(
        self,
        width: int,
        rank: int,
        *,
        heads: int,
        head_width: int,
        chosen: int,
        positions: Positions,
        source: int,
        norm_eps: float = 1e-6,
        last: int = 0,
    ) -> None:
        super().__init__(source)
        self.q, self.k = Linear(rank, heads * head_width, bias=False), Linear(width, head_width, bias=False)
        self.norm, self.weights = LayerNorm(head_width, norm_eps), Linear(width, heads, bias=False)
        self.weights.widened = (torch.float16,)
        self.heads, self.head_width, self.chosen, self.positions = heads, head_width, chosen, positions
        self.last = last

    @torch.no_grad()
    def keys(self, x: Tensor, context: ForwardContext) -> Tensor:
        return self._turned(self.norm(self.k(x))[:, None], context)

    @torch.no_grad()
    def choose(
        self, x: Tensor, narrow: Tensor | None, keys: Tensor, attention_mask: AttentionMask, context: ForwardContext
    ) -> Tensor | None:
        seen = None
        if attention_mask.keys.longest > self.chosen:
            q = self._turned(self._queries(x, narrow, context), context)  # (tokens, heads, index width)
            weights = self.weights(x).float() * self.heads**-0.5  # (tokens, heads)
            seen = self._best(q, weights, keys[:, 0], attention_mask)
        context.share(("selection", self.source), seen, by_token=seen is not None)
        return seen

    def _queries(self, x: Tensor, narrow: Tensor | None, context: ForwardContext) -> Tensor:
        """Return queries (tokens, heads, index width), not turned yet."""
        return self.q(narrow).unflatten(-1, (self.heads, -1))

    def _turned(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Return (tokens, heads, index width), turned by the tokens' positions."""
        if self.last:
            plain, turned = x.split((self.head_width - self.last, self.last), -1)
            return torch.cat([plain, self.positions.rotate(turned, turned[:, :1], context)[0]], -1)
        return self.positions.rotate(x, x[:, :1], context)[0]

    def _best(self, q: Tensor, weights: Tensor, keys: Tensor, attention_mask: AttentionMask) -> Tensor:
        """Return the chosen keys, (tokens, longest keys)."""
        queries, layout = attention_mask.queries, attention_mask.keys
        seen = torch.ones(q.shape[0], layout.longest, dtype=torch.bool, device=q.device)
        for sequence, (begin, count) in enumerate(zip(layout.begins, layout.lengths, strict=True)):
            if count <= self.chosen:
                continue
            k = keys[begin : begin + count].float().t()  # (index width, keys)
            mask = attention_mask.dense(sequence, q.device)  # (queries, keys)
            first, tokens = queries.begins[sequence], queries.lengths[sequence]
            step = max(1, SCORES // (self.heads * count))
            for start in range(0, tokens, step):
                part = slice(start, min(start + step, tokens))
                rows = slice(first + part.start, first + part.stop)
                each = torch.relu((q[rows].float() @ k) * self.head_width**-0.5)  # (queries, heads, keys)
                scores = (weights[rows, None] @ each)[:, 0]  # (queries, keys)
                scores = scores if mask is None else scores.masked_fill(~mask[part], -torch.inf)
                best = scores.topk(self.chosen, -1).indices  # (queries, chosen)
                seen[rows, :count] = torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True)
        return seen


class StateIndexer(Indexer):
    """Index whose queries come from the normed states, scaled by their places (Mistral Large 4)."""

    reads_factor: ClassVar = False

    def __init__(self, width: int, *, heads: int, norm_eps: float = 1e-6, **options: Any) -> None:
        super().__init__(width, width, heads=heads, norm_eps=norm_eps, **options)
        self.q_norm, self.query_scale = LayerNorm(width, norm_eps), LearnedLogScale(heads)

    def _queries(self, x: Tensor, narrow: Tensor | None, context: ForwardContext) -> Tensor:
        return self.query_scale(super()._queries(x, self.q_norm(x), context), context)


class PoolIndexer(Indexer):
    """Index of pools of tokens: a query sees those of the best whole pools, and what follows the last one (GLM-5.3).

    A pool's key is a mean of its tokens' keys, weighted for each channel by scores of the tokens and of their places.

    Args:
        pool: tokens of one. chosen: keys of a query, a multiple of it.
    """

    unpacked: ClassVar = (*Indexer.unpacked, "share")

    def __init__(self, width: int, rank: int, *, pool: int, head_width: int, **options: Any) -> None:
        super().__init__(width, rank, head_width=head_width, **options)
        self.share = Linear(width, head_width, bias=False)
        self.places = nn.Parameter(torch.empty(pool, head_width))
        self.pool = pool

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to places that change nothing."""
        parameter.zero_()

    @torch.no_grad()
    def keys(self, x: Tensor, context: ForwardContext) -> Tensor:
        return torch.cat([super().keys(x, context), self.share(x)[:, None]], -1)  # (tokens, 1, 2 * index width)

    def _best(self, q: Tensor, weights: Tensor, keys: Tensor, attention_mask: AttentionMask) -> Tensor:
        queries, layout = attention_mask.queries, attention_mask.keys
        seen = torch.ones(q.shape[0], layout.longest, dtype=torch.bool, device=q.device)
        for begin, count, first, tokens in zip(
            layout.begins, layout.lengths, queries.begins, queries.lengths, strict=True
        ):
            if count <= self.chosen:
                continue
            k = self._pooled(keys[begin : begin + count]).float().t()  # (index width, pools)
            numbers = torch.arange(k.shape[1], device=q.device)  # (pools,)
            step = max(1, SCORES // (self.heads * k.shape[1]))
            for start in range(first, first + tokens, step):
                rows = slice(start, min(start + step, first + tokens))
                places = torch.arange(rows.start, rows.stop, device=q.device) + count - tokens - first  # (queries,)
                each = torch.relu((q[rows].float() @ k) * self.head_width**-0.5)  # (queries, heads, pools)
                whole = (places[:, None] + 1) // self.pool > numbers  # (queries, pools)
                scores = (weights[rows, None] @ each)[:, 0].masked_fill(~whole, -torch.inf)
                best = scores.topk(min(self.chosen // self.pool, len(numbers)), -1).indices
                chosen = torch.zeros_like(whole).scatter(1, best, True) & whole
                seen[rows, :count] = keys_of_blocks(chosen, places, self.pool, count)
        return seen

    def _pooled(self, keys: Tensor) -> Tensor:
        """Return keys (pools, index width) of the whole pools of a sequence; keys: (rows, 2 * index width)."""
        pools = len(keys) // self.pool
        k, share = keys[: pools * self.pool].unflatten(0, (pools, self.pool)).chunk(2, -1)  # (pools, pool, index width)
        return ((share.float() + self.places.float()).softmax(1).to(k.dtype) * k).sum(1)


def keys_of_blocks(chosen: Tensor, places: Tensor, block: int, count: int) -> Tensor:
    """Return which keys of a sequence each query sees, (queries, keys): those of chosen blocks, and later ones.

    Args:
        chosen: (queries, whole blocks). places: of the queries (queries,). block: tokens of one. count: of keys.
    """
    seen = chosen.repeat_interleave(block, 1)  # (queries, blocks * block)
    seen = torch.nn.functional.pad(seen, (0, count - seen.shape[1]))  # (queries, keys)
    spot = torch.arange(count, device=places.device)
    begun = (places + 1) // block * block  # (queries,), first token after the last whole block
    return seen | ((spot >= begun[:, None]) & (spot <= places[:, None]))


def chosen_rows(chosen: Tensor, attention_mask: AttentionMask) -> tuple[Tensor, AttentionMask]:
    """Return the rows of the keys that single queries see, end to end, and the mask of these rows.

    Args:
        chosen: (tokens, longest keys), a token of each sequence that has any.
    """
    queries, keys = attention_mask.queries, attention_mask.keys
    each = [
        chosen[token, :count].nonzero()[:, 0] + begin
        if tokens
        else torch.arange(begin, begin + count, device=chosen.device)
        for token, tokens, begin, count in zip(queries.begins, queries.lengths, keys.begins, keys.lengths, strict=True)
    ]  # (chosen rows of the sequence,) each
    layout = SequenceLayout.packed(tuple(len(rows) for rows in each))
    return torch.cat(each), AttentionMask(queries, layout)


def hiding(chosen: Tensor, attention_mask: AttentionMask, dtype: torch.dtype) -> Bias:
    """Return the bias that hides the keys that are not chosen; chosen: (tokens, longest keys)."""
    queries, keys = attention_mask.queries, attention_mask.keys

    def of(sequence: int) -> Tensor:
        begin, tokens = queries.begins[sequence], queries.lengths[sequence]
        seen = chosen[begin : begin + tokens, : keys.lengths[sequence]]  # (queries, keys)
        # (1, queries, keys); the lowest finite number, since a row of minus infinity would give NaN
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[None]

    return of
