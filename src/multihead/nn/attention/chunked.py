"""Attention within chunks of fixed places in a sequence (Llama 4, Meta, 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import KVLayerCache
from ..forward_context import ForwardContext
from .attention import Attention


@dataclass(frozen=True)
class Chunks:
    """Chunks that a pass has queries in.

    Args:
        queries, keys: rows of each chunk's queries, and of its keys up to the last of them.
        texts: the sequence of each chunk. places: of its first query and key among the sequence's own.
    """

    queries: SequenceLayout
    keys: SequenceLayout
    texts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, runs: SequenceLayout, keys: SequenceLayout, past: tuple[int, ...], size: int) -> Chunks:
        """Cut each sequence at multiples of `size`, counted from its first token.

        Args:
            keys: visible rows, the last ones of their sequence. past: tokens of each sequence before this pass.
        """
        rows = []
        for text, (begin, new, held) in enumerate(zip(runs.begins, runs.lengths, past, strict=True)):
            end = held + new
            first_key = end - keys.lengths[text]  # older keys are released
            for low in range(held // size * size, end, size):
                high, query, key = min(low + size, end), max(low, held), max(low, first_key)
                place = (query - held, key - first_key)
                own = (begin + place[0], high - query, keys.begins[text] + place[1], high - key)
                rows.append((*own, text, place))
        parts = tuple(zip(*rows, strict=True)) or ((),) * 6
        return cls(SequenceLayout(parts[0], parts[1]), SequenceLayout(parts[2], parts[3]), parts[4], parts[5])


class ChunkedAttention(Attention):
    """Causal attention of each token to those of its own chunk of the sequence.

    A chunk is to kernels what a sequence is to plain attention, so that no key of another one is read, and the cost
    grows linearly with the length.

    Args:
        chunk: tokens of a chunk; the first begins with the sequence, whatever the positions are.
    """

    def __init__(self, width: int, heads: int, *, chunk: int, **options: Any) -> None:
        super().__init__(width, heads, causal=True, **options)
        self.chunk = chunk

    def memory(self) -> KVLayerCache:
        return KVLayerCache(self.chunk)  # no chunk begins earlier than this many tokens back

    @property
    def pages(self) -> bool:
        return False  # a chunk may begin inside a page

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        turned, k = self.positions.rotate(q if self.query_scale is None else self.query_scale(q, context), k, context)
        if self.norm_last:
            turned, k = self.q_norm(turned), self.k_norm(k)
        runs, past = context.runs, (0,) * len(context.runs)
        if memory is not None:
            assert context.cache is not None
            k, v, runs = memory.extend(k, v, context)  # k, v: (rows, key heads, head width), with the cached tokens
            past = context.cache.lengths
        chunks = context.cached((Chunks, runs, self.chunk), lambda: Chunks.of(context.runs, runs, past, self.chunk))
        rule = context.cached(
            (AttentionMask, runs, self.chunk), lambda: AttentionMask(chunks.queries, chunks.keys, causal=True)
        )
        shown: list[list[Tensor]] | None = None if context.capture.attentions is None else []
        mixed = self._mix(turned, k, v, rule, None, context, shown)  # (tokens, heads, head width)
        if context.capture.attentions is not None and shown is not None:
            context.capture.attentions.append(self._whole(shown[0], chunks, context.runs, runs, turned))
        return mixed

    def _whole(
        self, shown: list[Tensor], chunks: Chunks, runs: SequenceLayout, keys: SequenceLayout, q: Tensor
    ) -> list[Tensor]:
        """Return attention weights (heads, queries, keys) of each sequence, 0 between chunks."""
        whole = [q.new_zeros(q.shape[1], *shape) for shape in zip(runs.lengths, keys.lengths, strict=True)]
        for text, (query, key), part in zip(chunks.texts, chunks.places, shown, strict=True):
            whole[text][:, query : query + part.shape[1], key : key + part.shape[2]] = part
        return whole
