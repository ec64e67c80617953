"""Disentangled attention: content and distance are scored separately (DeBERTa, He et al., arXiv:2006.03654)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..activations import Activation
from ..cache.layer_cache import KVLayerCache, LayerCache
from ..forward_context import ForwardContext
from ..positions import Positions
from ..weights import Dropout, Embedding


class Distances(nn.Module):
    """Embeddings of the distances between keys and queries, shared by all layers.

    Args:
        reach: the largest distance with a row of its own. buckets: rows on either side, where far distances share them
            by their logarithm (DeBERTa-v2); None for a row each.
        norm: of the vectors.
    """

    def __init__(self, width: int, reach: int, *, buckets: int | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.rows = buckets or reach
        self.table, self.norm = Embedding(2 * self.rows, width), norm or nn.Identity()
        self.reach, self.buckets = reach, buckets

    def forward(self) -> Tensor:
        """Return the embeddings of all distances, (2 rows, width)."""
        return self.norm(self.table.weight)

    def row(self, before: Tensor) -> Tensor:
        """Return the row of each distance, any shape. `before`: query position minus key position."""
        return (self._bucket(before) + self.rows).clamp(0, 2 * self.rows - 1)

    def _bucket(self, before: Tensor) -> Tensor:
        if self.buckets is None:
            return before
        exact = self.buckets // 2  # distances up to this have a row each
        far = before.abs().clamp(min=exact)  # so the logarithm is never negative
        # 0 at `exact`, 1 at `reach - 1`
        ratio = torch.log(far / exact) / torch.log(torch.tensor((self.reach - 1) / exact))
        shared = torch.ceil(ratio * (exact - 1)) + exact
        return torch.where(before.abs() <= exact, before, (shared * before.sign()).long())


class DisentangledBias(Positions):
    """Scores of content with distance (c2p) and of distance with content (p2c).

    Args:
        key, query: project what stands for a distance; None where the family does not score so.
        scale: of the scores. dropout: of the vectors.
    """

    def __init__(
        self, distances: Distances, key: nn.Module | None, query: nn.Module | None, scale: float, dropout: float
    ) -> None:
        super().__init__()
        self.distances, self.key, self.query = distances, key, query
        self.scale, self.dropout = scale, Dropout(dropout)

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        vectors = self.dropout(context.cached(self.distances, self.distances))  # (2 rows, width)
        # (2 longest - 1,), shared by all layers
        known = context.cached(
            (self.distances, attention_mask.keys.longest), lambda: self._rows(attention_mask.keys.longest, q.device)
        )
        # Score every distance once, then look up each pair: a vector a pair would take queries * keys * width numbers.
        content_to_position = self._scores(q, self.key, vectors)  # (heads, tokens, 2 rows)
        position_to_content = self._scores(k, self.query, vectors)  # (heads, keys of all sequences, 2 rows)

        def of(text: int) -> Tensor:
            begin, queries = attention_mask.queries.begins[text], attention_mask.queries.lengths[text]
            first, keys = attention_mask.keys.begins[text], attention_mask.keys.lengths[text]
            # (queries, keys), query position minus key position; the queries are the last tokens of the sequence
            before = torch.arange(keys - queries, keys, device=q.device)[:, None] - torch.arange(keys, device=q.device)
            rows = known[before + known.shape[0] // 2].expand(q.shape[1], -1, -1)  # (heads, queries, keys)
            total = q.new_zeros(rows.shape)  # (heads, queries, keys)
            if content_to_position is not None:
                total = total + content_to_position[:, begin : begin + queries].gather(2, rows)
            if position_to_content is not None:
                # Rows are looked up for each key, then turned: (heads, keys, queries) to (heads, queries, keys).
                total = total + position_to_content[:, first : first + keys].gather(2, rows.transpose(1, 2)).transpose(
                    1, 2
                )
            return total * self.scale

        return of

    def _rows(self, longest: int, device: torch.device) -> Tensor:
        """Return the rows of the distances `1 - longest` to `longest - 1`, (2 longest - 1,)."""
        return self.distances.row(torch.arange(1 - longest, max(longest, 1), device=device))

    def _scores(self, x: Tensor, project: nn.Module | None, vectors: Tensor) -> Tensor | None:
        """Return scores of x (tokens, heads, head width) with all distances, (heads, tokens, 2 rows)."""
        if project is None:
            return None
        # Projected vectors: (2 rows, heads, head width)
        return torch.einsum("thd,rhd->htr", x, project(vectors).unflatten(-1, (x.shape[1], -1)))


class ConvolvedLayer(nn.Module):
    """Layer with a parallel convolution of its input: norm(layer(x) + act(convolution(x))) (DeBERTa-v2).

    Args:
        kernel: tokens that the convolution looks at, an odd number; zero past a text's ends. groups: of channels.
    """

    def __init__(
        self, layer: nn.Module, width: int, kernel: int, groups: int, act: Activation, norm: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        self.layer, self.act, self.norm, self.dropout = layer, act, norm, Dropout(dropout)
        self.weight = nn.Parameter(torch.empty(width, width // groups, kernel))  # as torch's conv1d
        self.bias, self.groups = nn.Parameter(torch.empty(width)), groups

    def memory(self) -> KVLayerCache:
        return self.layer.memory()  # type: ignore[operator]

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.norm(self.layer(x, context, memory) + self.act(self.dropout(self._convolved(x, context))))

    def _convolved(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Convolve all sequences at once, with zeros between them: (tokens, width) to (tokens, width)."""
        gap = self.weight.shape[2] // 2
        rows = context.cached((ConvolvedLayer, gap), lambda: self._spaced_rows(context, gap))  # (tokens,)
        # (tokens + gap * (sequences + 1), width): one gap of zeros is enough for both neighbours
        spread = x.new_zeros(x.shape[0] + gap * (len(context.runs) + 1), x.shape[1]).index_copy(0, rows, x)
        # (1, width, spread rows)
        mixed = nn.functional.conv1d(spread.T[None], self.weight, self.bias, padding=gap, groups=self.groups)
        return mixed[0].T[rows]  # (tokens, width)

    def _spaced_rows(self, context: ForwardContext, gap: int) -> Tensor:
        """Return row indices (tokens,) of the sequences with `gap` rows before each."""
        parts = [
            torch.arange(begin + gap * (text + 1), begin + gap * (text + 1) + length)
            for text, (begin, length) in enumerate(zip(context.runs.begins, context.runs.lengths, strict=True))
        ]
        return (torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)).to(context.positions.device)


def disentangled_scale(head_width: int, kinds: int) -> float:
    """Return the scale of scores that sum content-content and `kinds` more terms."""
    return 1 / math.sqrt(head_width * (1 + kinds))
