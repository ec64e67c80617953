"""Self-attention and cross-attention as one (T5Gemma 2, Zhang et al., 2025, arXiv:2512.14856)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import KVLayerCache
from ..encoder_output import EncoderOutput
from ..forward_context import ForwardContext
from .attention import Attention


class MergedAttention(Attention):
    """Attention of a decoder's tokens to their source and to their own sequence, in one softmax.

    Both are projected by the same layers. Keys of the source are not rotated, and all of them are seen: a window hides
    tokens of the decoder's own sequence alone.
    """

    pages = False  # the keys of the source come before those of the pages

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        source = context.encoder_output
        assert source is not None
        q, k = self.positions.rotate(q, k, context)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.extend(k, v, context)  # (rows, key heads, head width), with the cached tokens
        shows = context.capture.attentions is not None
        if self.window is not None and runs.longest > self.window and context.runs.longest == 1 and not shows:
            runs = nearest(runs, self.window)
        sources = self.projected(source)  # (source tokens, key heads, head width) each
        rule = context.cached(
            (MergedAttention, runs, source.runs),
            lambda: AttentionMask(context.runs, joined(source.runs, runs), causal=True),
        )
        k, v = (side_by_side(there, source.runs, own, runs) for there, own in zip(sources, (k, v), strict=True))
        shown: list[list[Tensor]] | None = [] if shows else None
        mixed = self._mix(q, k, v, rule, self._hidden(q, source, runs, context), context, shown)
        if shown is not None:
            parts = [p.split([n, p.shape[-1] - n], -1) for p, n in zip(shown[0], source.runs.lengths, strict=True)]
            for record, number in ((context.capture.cross_attentions, 0), (context.capture.attentions, 1)):
                if record is not None:
                    record.append([part[number] for part in parts])
        return mixed

    def projected(self, source: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Return keys and values (source tokens, key heads, head width) of a source, computed once per source."""
        return source.project(
            self, lambda hidden: (self.k_norm(self._split(self.k(hidden))), self._split(self.v(hidden)))
        )

    def _hidden(self, q: Tensor, source: EncoderOutput, runs: SequenceLayout, context: ForwardContext) -> Bias | None:
        """Return the bias that hides a decoder's own tokens outside the window; None where it hides none."""
        window = self.window
        if window is None or runs.longest <= window:
            return None

        def made(sequence: int) -> Tensor:
            own, queries, others = (x.lengths[sequence] for x in (runs, context.runs, source.runs))
            places = torch.arange(own - queries, own, device=q.device)[:, None]  # (queries, 1), among the own keys
            far = torch.arange(own, device=q.device) <= places - window  # (queries, own keys)
            bias = q.new_zeros(queries, own).masked_fill(far, torch.finfo(q.dtype).min)
            return torch.nn.functional.pad(bias, (others, 0))[None]  # (1, queries, source keys + own keys)

        def of(sequence: int) -> Tensor:
            return context.cached((MergedAttention, runs, source.runs, window, sequence), lambda: made(sequence))

        return of


def nearest(runs: SequenceLayout, count: int) -> SequenceLayout:
    """Return the last `count` rows of each run, or all of a shorter one."""
    kept = tuple(min(length, count) for length in runs.lengths)
    begins = tuple(b + n - k for b, n, k in zip(runs.begins, runs.lengths, kept, strict=True))
    return SequenceLayout(begins, kept)


def joined(first: SequenceLayout, second: SequenceLayout) -> SequenceLayout:
    """Return the layout of `side_by_side`."""
    return SequenceLayout.packed(tuple(map(sum, zip(first.lengths, second.lengths, strict=True))))


def side_by_side(x: Tensor, first: SequenceLayout, y: Tensor, second: SequenceLayout) -> Tensor:
    """Return for each sequence its rows of x, then its rows of y: (rows of all, heads, width)."""
    spans = zip(first.begins, first.lengths, second.begins, second.lengths, strict=True)
    parts = [part for a, n, b, m in spans for part in (x.narrow(0, a, n), y.narrow(0, b, m))]
    return torch.cat(parts) if parts else x[:0]
