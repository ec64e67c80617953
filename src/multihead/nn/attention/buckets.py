"""Attention in chunks of a text, or of its tokens sorted by hashes (Reformer, Kitaev et al., 2020, arXiv:2001.04451).

The last chunk is also the neighbour of the first one, as in the published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InvalidInput
from ..forward_context import ForwardContext
from ..weights import Linear

HIDDEN, OWN = -1e9, -1e5  # scores of keys that are not seen, and of a token's own key


class ChunkedHeads(nn.Module):
    """Base class: attention of each text alone, whose length is filled up to whole chunks where it is cut into some.

    A text is read whole in each pass: its chunks move with its length.

    Args:
        chunk: tokens of a chunk; a text of no more has plain attention. before, after: further chunks that one sees.
        least, multiple: a text of more than `least` tokens is filled up to a multiple of `multiple` tokens.
        dropout: of the attention weights, in training.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        names: Sequence[str],
        *,
        causal: bool,
        chunk: int,
        before: int,
        after: int,
        least: int,
        multiple: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleDict({n: Linear(width, heads * head_width, bias=False) for n in names})
        self.out = Linear(heads * head_width, width, bias=False)
        self.causal, self.chunk, self.before, self.after = causal, chunk, before, after
        self.least, self.multiple, self.dropout, self.heads = least, multiple, dropout, heads

    def forward(self, x: Tensor, context: ForwardContext, memory: object) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        if context.cache is not None and any(context.cache.lengths):
            raise InvalidInput("This model reads a text whole in each pass: give all of it, without past_key_values.")
        # (tokens, heads, head width) each; in float32, where scores of hidden keys have room
        given = [layer(x).float().unflatten(-1, (self.heads, -1)) for layer in self.projections.values()]
        lengths = context.runs.lengths
        texts = zip(*(part.split(lengths) for part in given), strict=True)
        # (heads, length, head width) each
        mixed = [self._mix(*(part.transpose(0, 1) for part in parts)).transpose(0, 1) for parts in texts]
        return self.out(torch.cat(mixed).flatten(1).to(x.dtype))

    def _mix(self, *parts: Tensor) -> Tensor:
        """Return the head outputs (heads, length, head width) of one text."""
        raise NotImplementedError

    def filled(self, length: int) -> int:
        """Return the length that a text is filled up to."""
        return length if length <= self.least else -(-length // self.multiple) * self.multiple

    def neighbours(self, chunks: Tensor) -> Tensor:
        """Return each chunk beside those around it: (heads, chunks, chunk, ...) to (heads, chunks, seen, ...)."""
        steps = range(-self.before, self.after + 1)
        return torch.cat([chunks.roll(-step, 1) for step in steps], 2)

    def weigh(self, scores: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs (..., queries, head width) and the logarithms of the sums of their weights, (..., queries)."""
        total = scores.logsumexp(-1, keepdim=True)
        weights = F.dropout(torch.exp(scores - total), self.dropout, self.training)
        return weights @ v, total.squeeze(-1)


class LocalChunks(ChunkedHeads):
    """Attention to the own chunk and those around it."""

    def _mix(self, *parts: Tensor) -> Tensor:
        q, k, v = parts
        length, whole = q.shape[1], self.filled(q.shape[1])
        k = k / math.sqrt(k.shape[-1])
        place = torch.arange(length, device=q.device)
        if whole <= self.chunk:
            scores = q @ k.mT  # (heads, queries, keys)
            scores = scores.masked_fill(place[:, None] < place, HIDDEN) if self.causal else scores
            return self.weigh(scores, v)[0]
        # (heads, chunks, chunk, head width) each
        q, k, v = (F.pad(x, (0, 0, 0, whole - length)).unflatten(1, (-1, self.chunk)) for x in (q, k, v))
        queries = torch.arange(whole, device=q.device).view(1, -1, self.chunk)  # (1, chunks, chunk)
        keys = self.neighbours(queries)[:, :, None]  # (1, chunks, 1, seen)
        hidden = keys >= length
        hidden = hidden | (queries[..., None] < keys) if self.causal else hidden
        scores = (q @ self.neighbours(k).mT).masked_fill(hidden, HIDDEN)  # (heads, chunks, chunk, seen)
        return self.weigh(scores, self.neighbours(v))[0].flatten(1, 2)[:, :length]


class HashedChunks(ChunkedHeads):
    """Attention to tokens whose hashes are alike: sorted by their buckets, tokens see their chunk and those around it.

    Queries are keys; a token sees itself only where it sees no other.

    Args:
        buckets: of a hash, or factors of their number; None for what the paper advises for a text's length.
        hashes: rounds of hashing, whose outputs are averaged. positions: the most tokens of a text.
        seed: of the random rotations. They are the same in each pass.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        *,
        buckets: Sequence[int] | None,
        hashes: int,
        positions: int,
        seed: int,
        **options: float,
    ) -> None:
        super().__init__(width, heads, head_width, ("query_key", "value"), **options)  # type: ignore[arg-type]
        self.buckets, self.hashes, self.positions, self.seed = buckets, hashes, positions, seed

    def _mix(self, *parts: Tensor) -> Tensor:
        qk, v = parts
        length, whole = qk.shape[1], self.filled(qk.shape[1])
        if whole <= self.chunk:
            scores = qk @ self._keys(qk).mT  # (heads, queries, keys)
            place = torch.arange(length, device=qk.device)
            scores = scores.masked_fill(place[:, None] < place, HIDDEN) if self.causal else scores
            return self.weigh(scores.masked_fill(place[:, None] == place, OWN), v)[0]
        order = self._hash(qk.detach(), whole).argsort(dim=-1, stable=True)  # (heads, hashes * whole)
        place = order % whole
        # (heads, chunks, chunk, head width) each
        sorted_qk, sorted_v = (
            F.pad(x, (0, 0, 0, whole - length)).gather(1, place[..., None].expand(-1, -1, x.shape[-1]))
            .unflatten(1, (-1, self.chunk))
            for x in (qk, v)
        )  # fmt: skip
        queries = place.unflatten(1, (-1, self.chunk))  # (heads, chunks, chunk)
        keys = self.neighbours(queries)[:, :, None]  # (heads, chunks, 1, seen)
        hidden = keys >= length
        hidden = hidden | (queries[..., None] < keys) if self.causal else hidden
        scores = sorted_qk @ self.neighbours(self._keys(sorted_qk)).mT  # (heads, chunks, chunk, seen)
        scores = scores.masked_fill(hidden, HIDDEN).masked_fill(queries[..., None] == keys, OWN)
        mixed, totals = (x.flatten(1, 2) for x in self.weigh(scores, self.neighbours(sorted_v)))
        back = order.argsort(-1)  # (heads, hashes * whole)
        mixed = mixed.gather(1, back[..., None].expand_as(mixed)).unflatten(1, (self.hashes, whole))
        totals = totals.gather(1, back).unflatten(1, (self.hashes, whole))  # (heads, hashes, whole)
        shares = torch.exp(totals - totals.logsumexp(1, keepdim=True))  # not a softmax: it rounds otherwise near OWN
        return (mixed * shares[..., None]).sum(1)[:, :length]

    def _keys(self, qk: Tensor) -> Tensor:
        """Return queries as keys, of the length 1 / sqrt(head width) times that of a unit root mean square."""
        return qk * torch.rsqrt(qk.square().mean(-1, keepdim=True) + 1e-6) / math.sqrt(qk.shape[-1])

    def _hash(self, qk: Tensor, whole: int) -> Tensor:
        """Return the bucket of each token in each round, (heads, hashes * whole); those of later rounds are higher."""
        factors = self.buckets or self._advised(whole)
        generator = torch.Generator(device="cpu").manual_seed(self.seed)
        shape = (self.heads, qk.shape[-1], self.hashes, sum(factors) // 2)
        rotations = torch.randn(shape, generator=generator, device="cpu").to(qk.device)
        turned = torch.einsum("htd,hdnr->hntr", qk, rotations)  # (heads, hashes, length, rotations)
        found, product = torch.zeros_like(turned[..., 0], dtype=torch.long), 1
        for part, factor in zip(turned.split([factor // 2 for factor in factors], -1), factors, strict=True):
            found = found + product * torch.cat([part, -part], -1).argmax(-1)
            product *= factor
        found = F.pad(found, (0, whole - found.shape[-1]), value=product)  # what fills a text up comes last
        rounds = torch.arange(self.hashes, device=qk.device)[:, None] * (product + 1)
        return (found + rounds).flatten(1)

    def _advised(self, whole: int) -> Sequence[int]:
        """Return the factors of the number of buckets for a text of this length."""
        power = (2 * (whole // self.chunk)).bit_length() - 1
        if 2**power <= 2 * max(int(math.sqrt(self.positions // self.chunk)), self.chunk):
            return (2**power,)
        return (2 ** (power // 2), 2 ** (power - power // 2))
