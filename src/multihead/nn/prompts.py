"""Learned vectors before each text, which are read with it in both directions (CPM-Ant)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, UnsupportedConfig
from ..kernels.backend import Bias
from ..kernels.ragged import AttentionMask, SequenceLayout
from .attention.attention import Attention
from .attention.position_bias import bucket_of
from .cache.layer_cache import HybridLayerCache, KVLayerCache, LayerCache, StateLayerCache, cache_or_none
from .embeddings import Embeddings
from .forward_context import ForwardContext
from .positions import Positions
from .stack import Stack
from .weights import Embedding

PROMPT, TEXT = 0, 2  # segments of prompts and of texts
PADDING = 0  # the id that is no token of a text
KIND = 2  # of the prompt that stands before texts to read and continue


@dataclass(frozen=True)
class PromptedBatch:
    """The rows of a pass in which texts that begin have a prompt before them.

    Args:
        text: the pass's context, whose rows are the texts' alone. width: vectors of a prompt.
    """

    text: ForwardContext
    width: int

    @property
    def begins(self) -> tuple[bool, ...]:
        """True for each text that has no cached tokens, so that its prompt is read with it."""
        cache = self.text.cache
        return (True,) * len(self.text.runs) if cache is None else tuple(length == 0 for length in cache.lengths)

    @property
    def runs(self) -> SequenceLayout:
        """The layout of prompts and texts together."""
        pairs = zip(self.text.runs.lengths, self.begins, strict=True)
        return SequenceLayout.packed(tuple(length + self.width * begins for length, begins in pairs))

    def join(self, prompt: Tensor, words: Tensor) -> Tensor:
        """Put the prompt (prompt, width) before each text that begins: (tokens, width) to (rows, width)."""
        parts = []
        for part, begins in zip(split(words, self.text.runs), self.begins, strict=True):
            parts += [prompt, part] if begins else [part]
        return torch.cat(parts) if parts else words

    def of_texts(self, x: Tensor) -> Tensor:
        """Leave prompts out: (rows, ...) to (tokens, ...)."""
        if not any(self.begins):
            return x
        pairs = zip(split(x, self.runs), self.begins, strict=True)
        return torch.cat([part[self.width * begins :] for part, begins in pairs])


def split(x: Tensor, runs: SequenceLayout) -> list[Tensor]:
    """Return the rows of each sequence, (length, ...) each."""
    return [x[begin : begin + length] for begin, length in zip(runs.begins, runs.lengths, strict=True)]


class SegmentBias(Positions):
    """Bias for each head: by distance within a prompt or a text, by their segments from one to the other.

    Args:
        heads: of the attention. buckets: of distances, half of them for keys after a query. prompt: vectors of one.
        reach: distance from which all keys share the last bucket. segments: how many the table tells apart.
    """

    def __init__(self, heads: int, *, buckets: int, reach: int, segments: int, prompt: int) -> None:
        super().__init__()
        if buckets < 4 or reach <= buckets // 4:
            raise UnsupportedConfig(f"{buckets} buckets of distances cannot reach {reach} tokens far.")
        if segments <= TEXT:
            raise UnsupportedConfig(f"segment_types is {segments}, and texts are of segment {TEXT}, counted from 0.")
        self.table = Embedding(buckets + segments**2, heads)  # weight (rows, heads)
        self.buckets, self.reach, self.segments, self.prompt = buckets, reach, segments, prompt

    def bias(self, q: Tensor, k: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Bias | None:
        def of(text: int) -> Tensor:
            queries, keys = attention_mask.queries.lengths[text], attention_mask.keys.lengths[text]
            return context.cached((self, queries, keys), lambda: self._at(queries, keys, q.device))

        return of

    def _at(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Return biases (heads, queries, keys) of the last `queries` places of a prompt and its text."""
        key = torch.arange(keys, device=device)
        query = key[keys - queries :, None]  # (queries, 1)
        kinds = torch.where(key < self.prompt, PROMPT, TEXT)  # (keys,), the segment of each place
        own = kinds[keys - queries :, None]
        ahead, half = key - query, self.buckets // 2  # (queries, keys)
        near = (ahead > 0) * half + bucket_of(ahead.abs(), half, self.reach)
        rows = torch.where(kinds == own, near, self.buckets + own * self.segments + kinds)
        return self.table(rows).movedim(-1, 0)


class PromptedAttention(Attention):
    """Attention of all tokens of a pass to each other, to earlier ones and to the prompt.

    The cache has the text's keys and values by position, and the prompt's as a state of each text.
    """

    def memory(self) -> LayerCache:  # type: ignore[override]
        return HybridLayerCache(KVLayerCache(joint=True), StateLayerCache())

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        batch: PromptedBatch = context.shared(PromptedBatch)
        runs = context.runs
        if isinstance(memory, HybridLayerCache):
            k, v, runs = self._with_cached(k, v, batch, memory)  # (keys, heads, head width) each
        attention_mask = context.attention_mask(runs, causal=False, window=None)
        record = context.capture.attentions
        seen: list[list[Tensor]] | None = None if record is None else []
        bias = self.positions.bias(q, k, attention_mask, context)
        mixed = self._mix(q, k, v, attention_mask, bias, context, seen)
        if record is not None and seen is not None:  # of the texts alone, as outputs show
            pairs = zip(seen[0], batch.begins, strict=True)
            record.append([one[:, batch.width * begins :, batch.width :] for one, begins in pairs])
        return mixed

    def _with_cached(
        self, k: Tensor, v: Tensor, batch: PromptedBatch, memory: HybridLayerCache
    ) -> tuple[Tensor, Tensor, SequenceLayout]:
        """Cache a pass's keys and values (rows, heads, head width); return all visible ones and their layout."""
        texts, states = memory.first, memory.second
        assert isinstance(texts, KVLayerCache)
        assert isinstance(states, StateLayerCache)
        prompts = states.read(batch.text)  # (sequences, 2, prompt, heads, head width), or None
        if prompts is None or any(batch.begins):
            pairs = zip(split(k, batch.runs), split(v, batch.runs), batch.begins, strict=True)
            prompts = torch.stack([
                torch.stack([one[: batch.width], other[: batch.width]]) if begins else prompts[number]  # type: ignore[index]
                for number, (one, other, begins) in enumerate(pairs)
            ])  # fmt: skip
            states.write(batch.text, prompts)
        own_k, own_v, runs = texts.extend(batch.of_texts(k), batch.of_texts(v), batch.text)
        if all(batch.begins):
            return k, v, batch.runs
        k, v = (
            torch.cat([part for pair in zip(prompts[:, side], split(own, runs), strict=True) for part in pair])
            for side, own in enumerate((own_k, own_v))
        )
        return k, v, SequenceLayout.packed(tuple(batch.width + length for length in runs.lengths))


class PromptedStack(Stack):
    """Stack that reads a learned prompt before each text; its states are left out of the result.

    A prompt and its text see each other whole. In later passes tokens see all that was read before, and each other.

    Args:
        prompt: vectors of one. words: rows of the table of words before those of the prompts, kind by kind.
        segments: how many kinds of rows have a vector that is added to each of them.
    """

    padding = PADDING

    def __init__(
        self, embed: Embeddings, layers: Sequence[nn.Module], norm: nn.Module, *, width: int, prompt: int, words: int,
        segments: int,
    ) -> None:  # fmt: skip
        super().__init__(embed, layers, norm)
        self.segments = Embedding(segments, width)
        self.prompt, self.words = prompt, words

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    @property
    def remembers(self) -> bool:
        return True

    @property
    def continues(self) -> bool:
        return True

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, width) to hidden states (tokens, width).

        Raises:
            InvalidInput: padding inside a text, or positions of the caller's own.
        """
        context = context if self.adjust is None else self.adjust(context)
        self._check(context)
        batch, seen = PromptedBatch(context, self.prompt), context.capture.hidden
        first = self.words + KIND * self.prompt
        rows = torch.arange(first, first + self.prompt, device=words.device)  # (prompt,)
        prompt = self.embed.look_up(rows) + self.segments.weight[PROMPT]  # (prompt, width)
        x = batch.join(prompt, self.embed(words, context) + self.segments.weight[TEXT])  # (rows, width)
        inner = replace(context, runs=batch.runs, ids=None)
        inner.share(PromptedBatch, batch)
        memories = context.cache.layers if context.cache else [None] * len(self.layers)
        for layer, memory in zip(self.layers, memories, strict=True):
            if seen is not None:
                seen.append(batch.of_texts(x))
            x = self._through(layer, x, inner, cache_or_none(memory))
        # Only now, since every layer reads the cached lengths of before the pass.
        x = self.norm(batch.of_texts(x))  # (tokens, width)
        if context.cache is not None:
            context.cache.advance(context.runs)
        if seen is not None:
            seen.append(x)
        return x

    def _check(self, context: ForwardContext) -> None:
        if context.custom_positions:
            raise InvalidInput("This family tells tokens apart by their distances alone; leave position_ids out.")
        if context.ids is not None and bool((context.ids == PADDING).any()):
            raise InvalidInput(
                f"The id {PADDING} is padding in this family, and a text has it: give an attention_mask with 0 there, "
                "or leave it out."
            )
