"""Learned attention biases by distance (Shaw et al., 2018, arXiv:1803.02155)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import UnsupportedConfig
from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..cache.block_pool import padded_slots
from ..forward_context import ForwardContext
from ..positions import Positions
from ..weights import Embedding


class BucketedBias(Positions):
    """Bias for each head and bucket of distances; far distances share buckets (T5, arXiv:1910.10683).

    Args:
        heads: of the attention. buckets: of distances; an encoder's half is for keys before a query, half after.
        reach: distance from which all keys share the last bucket.
        causal: no key after a query is seen, so all buckets are for keys before it.
        rows: of the table, where it has more than there are buckets (MPNet).
    """

    def __init__(self, heads: int, *, buckets: int, reach: int, causal: bool, rows: int | None = None) -> None:
        super().__init__()
        exact = (buckets if causal else buckets // 2) // 2
        if exact < 1 or reach <= exact:
            raise UnsupportedConfig(f"{buckets} buckets of distances cannot reach {reach} tokens far.")
        self.table = Embedding(buckets if rows is None else rows, heads)  # weight (rows, heads)
        self.buckets, self.reach, self.causal = buckets, reach, causal

    def biases(self, count: int) -> tuple[Tensor, bool] | None:
        ahead = torch.arange(1 - count, 1, device=self.table.weight.device)  # (count,)
        return self.at(ahead).float().contiguous(), False  # (heads, count)

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        longest = max(attention_mask.keys.longest, 1)
        values = context.cached(self, lambda: self._central(longest, context, q.device))  # (heads, odd number)
        middle = values.shape[1] // 2  # column of distance 0
        places = [
            keys - queries
            for queries, keys in zip(attention_mask.queries.lengths, attention_mask.keys.lengths, strict=True)
        ]  # of each text's first query
        # A decode step needs one row of each sequence, which is a view of `values`: (heads, 1, keys).
        if attention_mask.queries.longest == 1:
            return lambda text: values[:, None, middle - places[text] :][..., : attention_mask.keys.lengths[text]]
        low = min(places)
        # (heads, longest - low, longest): all sequences read parts of one block, without a copy
        block = context.cached((self, attention_mask), lambda: self._block(values, low, longest))

        def of(text: int) -> Tensor:
            row = places[text] - low
            # (heads, queries, keys)
            return block[:, row : row + attention_mask.queries.lengths[text], : attention_mask.keys.lengths[text]]

        return of

    def near(
        self, place: int, queries: int, keys: int, reach: int, context: ForwardContext, device: torch.device
    ) -> Tensor:
        """Return biases (heads, queries, keys) of queries from `place` on and keys less than `reach` positions away."""
        values = context.cached(self, lambda: self._values(reach, device))  # (heads, 2 reach - 1)
        # (heads, 2 reach + keys, keys); zeros are out of reach
        windows = nn.functional.pad(values, (keys, keys)).unfold(1, keys, 1)
        first = keys + reach - 1 - place  # window of the first query; each later query has the window before
        return windows[:, first - queries + 1 : first + 1].flip(1)  # (heads, queries, keys)

    def at(self, ahead: Tensor) -> Tensor:
        """Return the biases of given distances (key minus query position), (heads, ...)."""
        return self.table(self._bucket(ahead)).movedim(-1, 0)  # (..., heads) to (heads, ...)

    def _block(self, values: Tensor, low: int, longest: int) -> Tensor:
        """Return biases (heads, longest - low, longest) of the queries at positions `low` to `longest`."""
        middle = values.shape[1] // 2
        windows = values.unfold(1, longest, 1)  # window s begins at distance s - middle
        # A query's row is the row before, moved by one place: windows of one vector in reverse order are all rows.
        return windows[:, middle - longest + 1 : middle - low + 1].flip(1)

    def _central(self, longest: int, context: ForwardContext, device: torch.device) -> Tensor:
        """Return biases (heads, odd number) of distances around 0; decode steps share them through the cache."""
        # With gradients, kept values would keep the graph of an earlier pass.
        if context.cache is None or torch.is_grad_enabled():
            return self._values(longest, device)
        known = context.cache.notes.get(self)
        if not isinstance(known, Tensor) or known.shape[1] < 2 * longest - 1:
            # Some more than needed, so that not every decode step computes them again.
            known = context.cache.notes[self] = self._values(padded_slots(longest), device)
        return known

    def _values(self, count: int, device: torch.device) -> Tensor:
        """Return biases (heads, 2 count - 1) of the distances `1 - count` to `count - 1`."""
        return self.table(self._bucket(torch.arange(1 - count, count, device=device))).T

    def _bucket(self, ahead: Tensor) -> Tensor:
        """Return the bucket of each distance. `ahead`: key position minus query position."""
        buckets = self.buckets
        if self.causal:
            side, distance = torch.zeros_like(ahead), -ahead.clamp(max=0)  # keys after the query count as distance 0
        else:
            buckets //= 2
            # The second half of the buckets is for keys after the query.
            side, distance = (ahead > 0) * buckets, ahead.abs()
        return side + bucket_of(distance, buckets, self.reach)


def bucket_of(distance: Tensor, buckets: int, reach: int) -> Tensor:
    """Return the bucket of each distance, which is not negative."""
    exact = buckets // 2  # distances below this have a bucket each
    # The other buckets grow by a constant factor. Distance 0 is raised to 1, since log(0) is not finite.
    steps = torch.log(distance.clamp(min=1).float() / exact) / math.log(reach / exact) * (buckets - exact)
    far = (exact + steps.long()).clamp(max=buckets - 1)
    return torch.where(distance < exact, distance, far)
