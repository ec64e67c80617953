"""Attention within blocks and to global tokens that a model adds to each text (Pegasus-X, arXiv:2208.04347)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.ragged import AttentionMask, SequenceLayout
from ..embeddings import Embeddings
from ..forward_context import ForwardContext
from ..layer import Layer, Residual
from ..stack import Stack
from ..weights import Embedding
from .attention import Attention


class BlockGlobalAttention(Attention):
    """Tokens see their own block and the global tokens of their text; global tokens see all of both.

    Args:
        block: tokens of one. first: tokens of a text's first block, which staggers the others.
    """

    def __init__(self, width: int, heads: int, *, block: int, first: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.block, self.first = block, first

    def both(self, x: Tensor, g: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Map tokens (tokens, width) and global tokens of all texts (texts * globals, width) to their mixtures."""
        count = g.shape[0] // max(len(context.runs), 1)
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        asking, *others = self._project(g)  # (global tokens, heads, head width) each
        k, v = torch.cat([k, others[0]]), torch.cat([v, others[1]])  # (tokens + global tokens, heads, head width)
        # rows: (keys of all blocks,)
        queries, keys, rows = context.cached(
            (BlockGlobalAttention, self.block, self.first), lambda: self._blocks(context.runs, count, x.device)
        )
        shown: list[list[Tensor]] | None = None if context.capture.attentions is None else []
        # (tokens, heads, head width)
        near = self._mix(q, k[rows], v[rows], AttentionMask(queries, keys), None, context, shown)
        if context.capture.attentions is not None and shown is not None:
            context.capture.attentions.append(self._whole(shown[0], queries, context.runs))
        asked, all_keys, rows = context.cached(
            (BlockGlobalAttention, count), lambda: self._texts(context.runs, count, x.device)
        )
        # (global tokens, heads, head width)
        far = self._mix(asking, k[rows], v[rows], AttentionMask(asked, all_keys), None, context, None)
        return self.out(near.flatten(1)), self.out(far.flatten(1))

    def _blocks(
        self, runs: SequenceLayout, count: int, device: torch.device
    ) -> tuple[SequenceLayout, SequenceLayout, Tensor]:
        """Return the query runs and key runs of all blocks, and the rows of the keys, global tokens last."""
        begins, lengths, parts, total = [], [], [], sum(runs.lengths)
        for text, (begin, length) in enumerate(zip(runs.begins, runs.lengths, strict=True)):
            edges = [0, *range(self.first, length, self.block), length] if length else []
            for low, high in pairwise(edges):
                begins.append(begin + low)
                lengths.append(high - low)
                parts += [torch.arange(begin + low, begin + high), total + text * count + torch.arange(count)]
        rows = torch.cat([torch.zeros(0, dtype=torch.long), *parts]).to(device)
        keys = SequenceLayout.packed(tuple(length + count for length in lengths))
        return SequenceLayout(tuple(begins), tuple(lengths)), keys, rows

    def _texts(
        self, runs: SequenceLayout, count: int, device: torch.device
    ) -> tuple[SequenceLayout, SequenceLayout, Tensor]:
        """Return the runs of global tokens and of all keys of each text, and the rows of the keys."""
        parts, total = [torch.zeros(0, dtype=torch.long)], sum(runs.lengths)
        for text, (begin, length) in enumerate(zip(runs.begins, runs.lengths, strict=True)):
            parts += [total + text * count + torch.arange(count), torch.arange(begin, begin + length)]
        keys = SequenceLayout.packed(tuple(length + count for length in runs.lengths))
        return SequenceLayout.packed((count,) * len(runs)), keys, torch.cat(parts).to(device)

    def _whole(self, shown: list[Tensor], queries: SequenceLayout, runs: SequenceLayout) -> list[Tensor]:
        """Return the weights of each text's tokens among themselves, (heads, length, length)."""
        heads = shown[0].shape[0] if shown else 1
        out = [torch.zeros(heads, n, n, device=shown[0].device if shown else None) for n in runs.lengths]
        text = 0
        for p, begin, length in zip(shown, queries.begins, queries.lengths, strict=True):
            while begin >= runs.begins[text] + runs.lengths[text]:
                text += 1
            own = slice(begin - runs.begins[text], begin - runs.begins[text] + length)
            out[text][:, own, own] = p[..., :length].to(out[text].dtype)
        return out


class GlobalLayer(Layer):
    """Pre-norm layer of tokens and global tokens, which have a norm of their own before the attention."""

    def __init__(self, attention: Residual, ffn: Residual, global_norm: nn.Module) -> None:
        super().__init__(attention, ffn)
        self.global_norm = global_norm

    def both(self, x: Tensor, g: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """Return the states of tokens (tokens, width) and of global tokens (texts * globals, width)."""
        step: Any = self.attention
        near, far = step.step.both(step.before(x), self.global_norm(g), context)
        return self.ffn(x + step.dropout(near)), self.ffn(g + step.dropout(far))


class GlobalStack(Stack):
    """Encoder that reads each text with learned global tokens beside it.

    Args:
        globals: how many.
    """

    def __init__(
        self, embed: Embeddings, layers: Sequence[GlobalLayer], norm: nn.Module, *, globals: int, width: int
    ) -> None:
        super().__init__(embed, layers, norm)
        self.globals = Embedding(globals, width)

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, width) to hidden states (tokens, width)."""
        x = self.embed(words, context)  # (tokens, width)
        g = self.globals.weight.repeat(len(context.runs), 1).to(x.dtype)  # (texts * globals, width)
        seen = context.capture.hidden
        for layer in self.layers:
            if seen is not None:
                seen.append(x)
            x, g = layer.both(x, g, context)  # type: ignore[operator]
        x = self.norm(x)  # (tokens, width)
        if seen is not None:
            seen.append(x)
        return x
