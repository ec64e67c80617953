"""Attention by content and distance (Transformer-XL, Dai et al., 2019, arXiv:1901.02860; XLNet, arXiv:1906.08237)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..cache.layer_cache import KVLayerCache, XLNetMemory
from ..forward_context import ForwardContext
from ..positions import Positions
from ..weights import Linear
from .attention import Attention

Memory = XLNetMemory | KVLayerCache


class RelativeContent(Positions):
    """Scores of a query with the key's distance and with whether both are in one segment.

    Args:
        width: of the states. scale: of the scores. clamp: largest distance with its own embedding; None for no limit.
    """

    def __init__(self, width: int, heads: int, head_width: int, *, scale: float, clamp: int | None = None) -> None:
        super().__init__()
        self.distances = Linear(width, heads * head_width, bias=False)
        # Added to all queries of a head before they meet keys, distances or segments: (heads, head width) each.
        self.word_bias, self.distance_bias, self.segment_bias = (
            nn.Parameter(torch.empty(heads, head_width)) for _ in range(3)
        )
        self.segments = nn.Parameter(torch.empty(2, heads, head_width))  # same segment, other segment
        self.width, self.scale, self.clamp = width, scale, clamp

    def rotate(self, q: Tensor, k: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        return q + self.word_bias, k  # no rotation: only the bias of the content scores

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        longest = max(attention_mask.keys.longest, 1)
        # (2 longest, heads * head width), one row for each distance
        table = self.distances(context.cached((RelativeContent, longest, self.clamp), lambda: self._table(longest, q)))
        # (heads, tokens, 2 longest): each query meets each distance once, and pairs look it up
        far = torch.einsum("qhd,rhd->hqr", q + self.distance_bias, table.unflatten(-1, q.shape[1:]))

        def of(text: int) -> Tensor:
            begin, queries = attention_mask.queries.begins[text], attention_mask.queries.lengths[text]
            keys = attention_mask.keys.lengths[text]
            # (queries, keys), query position minus key position
            after = torch.arange(keys - queries, keys, device=q.device)[:, None] - torch.arange(keys, device=q.device)
            rows = (longest - after).expand(q.shape[1], -1, -1)  # (heads, queries, keys); row 0 is distance `longest`
            scores = far[:, begin : begin + queries].gather(2, rows)  # (heads, queries, keys)
            return (scores + self._segments(q[begin : begin + queries], begin, keys, context)) * self.scale

        return of

    def _table(self, longest: int, like: Tensor) -> Tensor:
        """Return sines and cosines (2 longest, width) of the distances from `longest` down."""
        steps = torch.arange(longest, -longest, -1, device=like.device).float()  # (2 longest,)
        steps = steps if self.clamp is None else steps.clamp(-self.clamp, self.clamp)
        # (width / 2,)
        frequencies = 1 / 10000 ** (torch.arange(0, self.width, 2, device=like.device).float() / self.width)
        angles = steps[:, None] * frequencies  # (2 longest, width / 2)
        return torch.cat([angles.sin(), angles.cos()], -1).to(like.dtype)

    def _segments(self, q: Tensor, begin: int, keys: int, context: ForwardContext) -> Tensor | float:
        """Return segment scores (heads, queries, keys), 0 without segments; cached tokens count as segment 0."""
        if context.segments is None:
            return 0.0
        own = context.segments[begin : begin + q.shape[0]]  # (queries,)
        other = own[:, None] != nn.functional.pad(own, (keys - q.shape[0], 0))  # (queries, keys)
        either = torch.einsum("qhd,shd->hqs", q + self.segment_bias, self.segments)  # (heads, queries, 2)
        return either.gather(2, other.long().expand(q.shape[1], -1, -1))


class TwoStreamAttention(Attention):
    """Attention under a permutation mask, for the content stream and the query stream of XLNet.

    `context.extra_inputs` may hold `perm_mask`, for each text (length, length), True where a query does not see a key,
    `target_mapping`, for each text (targets, length), the place of each target, and `memory_limit`, how many of the
    cached tokens are seen.

    Args:
        limit, share: of the memory (`XLNetMemory`).
    """

    def __init__(self, *args: object, limit: int | None, share: int | None, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.limit, self.share = limit, share

    def memory(self) -> XLNetMemory:  # type: ignore[override]
        return XLNetMemory(self.limit, self.share)

    def forward(self, x: Tensor, context: ForwardContext, memory: Memory | None) -> Tensor:
        q, k, v, attention_mask = self._read(x, context, memory)
        return self.out(self._stream(q, k, v, attention_mask, context, own=True).flatten(1))

    def both(self, x: Tensor, g: Tensor, context: ForwardContext, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Return the content stream (tokens, width) and the query stream (sequences * targets, width)."""
        # q: (tokens, heads, head width); k, v: (rows, heads, head width), with the memory
        q, k, v, attention_mask = self._read(x, context, memory)
        words = self._stream(q, k, v, attention_mask, context, own=True)  # (tokens, heads, head width)
        maps, count = context.extra_inputs["target_mapping"], g.shape[0] // max(len(context.runs), 1)
        asked = self._split(self.q(g)).split(count) if count else []  # (targets, heads, head width) each
        # (length, heads, head width) each: a target asks from its token's place, with that token's distances and mask
        placed = [torch.einsum("mhd,ml->lhd", a, m.to(a.dtype)) for a, m in zip(asked, maps, strict=True)]
        seen = self._stream(torch.cat(placed), k, v, attention_mask, context, own=False).split(
            attention_mask.queries.lengths
        )
        # (targets, heads, head width) each
        back = [torch.einsum("lhd,ml->mhd", s, m.to(s.dtype)) for s, m in zip(seen, maps, strict=True)]
        return self.out(words.flatten(1)), self.out(torch.cat(back).flatten(1))

    def _read(
        self, x: Tensor, context: ForwardContext, memory: Memory | None
    ) -> tuple[Tensor, Tensor, Tensor, AttentionMask]:
        q, k, v = self._project(x)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.extend(k, v, context)  # (rows, heads, head width) each
        return q, k, v, context.attention_mask(runs, causal=self.causal, window=None)

    def _stream(
        self, q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, context: ForwardContext, *, own: bool
    ) -> Tensor:
        """Return head outputs (tokens, heads, head width). `own`: tokens see themselves whatever the mask says."""
        bias = self.positions.bias(q, k, attention_mask, context)
        masks = context.extra_inputs.get("perm_mask")
        assert bias is not None

        def masked(text: int) -> Tensor:
            scores = bias(text)  # (heads, queries, keys)
            if masks is None:
                return scores
            hidden = masks[text]  # (length, length)
            if own:
                hidden = hidden & ~torch.eye(hidden.shape[0], dtype=torch.bool, device=hidden.device)
            # (queries, keys); keys of the memory are visible to all
            past = scores.shape[2] - hidden.shape[1]
            hidden = nn.functional.pad(hidden, (past, 0))
            if (most := context.extra_inputs.get("memory_limit")) is not None:
                hidden[:, : max(past - most, 0)] = True
            # The lowest finite number: a query that sees nothing gets equal weights instead of NaN.
            return scores.masked_fill(hidden, torch.finfo(scores.dtype).min)

        turned, k = self.positions.rotate(q, k, context)
        return self._mix(turned, k, v, attention_mask, masked, context, context.capture.attentions if own else None)
