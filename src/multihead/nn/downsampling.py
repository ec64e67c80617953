"""Encoders of characters whose deep layers read fewer positions (CANINE, Clark et al., 2021, arXiv:2103.06874)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.ragged import SequenceLayout
from .activations import activation
from .attention.attention import Attention
from .cache.layer_cache import KVLayerCache
from .embeddings import Embeddings
from .forward_context import ForwardContext, OutputCapture
from .ragged import ShorterStates, positions_in_sequences, select_tokens, sequence_ids
from .stack import Stack
from .weights import Dropout, Embedding, LayerNorm

PRIMES = (31, 43, 59, 61, 73, 97, 103, 113, 137, 149, 157, 173, 181, 193, 211, 223)  # one a hash function
CODE_POINTS = 0x110000  # of Unicode


class HashedEmbeddings(nn.Module):
    """Embeddings of code points: each of several hash functions gives a part of the channels.

    Args:
        buckets: rows of each table. hashes: number of hash functions.
    """

    def __init__(self, width: int, *, buckets: int, hashes: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.buckets = CODE_POINTS, width, buckets
        self.tables = nn.ModuleList(Embedding(buckets, width // hashes) for _ in range(hashes))

    @property
    def weight(self) -> Tensor:
        """The first table, whose precision is that of all."""
        return self.tables[0].weight  # type: ignore[return-value]

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (...,) to (..., width)."""
        rows = ((ids + 1) * prime % self.buckets for prime in PRIMES)  # (...,) each
        return torch.cat([table(row) for table, row in zip(self.tables, rows, strict=False)], -1)


class BlockAttention(Attention):
    """Attention within blocks of a sequence that do not overlap.

    Args:
        block: tokens of a block; the last one may have fewer.
    """

    def __init__(self, width: int, heads: int, *, block: int, dropout: float = 0.0) -> None:
        super().__init__(width, heads, dropout=dropout)
        self.block, self.heads = block, heads

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        counts = [-(-length // self.block) for length in context.runs.lengths]
        lengths = [min(self.block, n - at) for n in context.runs.lengths for at in range(0, n, self.block)]
        shown = context.capture.attentions
        capture = OutputCapture(attentions=None if shown is None else [])
        blocks = replace(context, runs=SequenceLayout.packed(tuple(lengths)), capture=capture, _cached={})
        out = super()._heads(x, blocks, memory)  # (tokens, heads, head width)
        if shown is not None and capture.attentions:
            parts = iter(capture.attentions[0])
            shown.append([self._whole([next(parts) for _ in range(count)], x) for count in counts])
        return out

    def _whole(self, parts: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return weights (heads, length, length) of a sequence, zero outside of its blocks (heads, size, size)."""
        grids = [torch.block_diag(*(part[head] for part in parts)) for head in range(self.heads) if parts]
        return torch.stack(grids) if grids else x.new_zeros(self.heads, 0, 0)


class Convolution(nn.Module):
    """Weight (out, in, kernel) and bias (out,) of a convolution along a sequence."""

    def __init__(self, into: int, out: int, kernel: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(out, into, kernel)), nn.Parameter(torch.empty(out))


class Downsampler(nn.Module):
    """The first state, and a strided convolution of all states but the last: norm of (positions, width).

    A sequence shorter than twice the rate has the first state alone.
    """

    def __init__(self, width: int, *, rate: int, act: str, eps: float) -> None:
        super().__init__()
        self.conv = Convolution(width, width, rate)
        self.act, self.norm, self.rate = activation(act), LayerNorm(width, eps), rate

    def lengths(self, runs: SequenceLayout) -> SequenceLayout:
        """Return the layout of the result."""
        return SequenceLayout.packed(tuple(max(n // self.rate, min(n, 1)) for n in runs.lengths))

    def forward(self, x: Tensor, runs: SequenceLayout, into: SequenceLayout) -> Tensor:
        """Map states (tokens, width) to (positions, width)."""
        place = positions_in_sequences(into, x.device)  # (positions,)
        begins = torch.tensor(runs.begins, device=x.device)[sequence_ids(into, x.device)]  # (positions,)
        later = place > 0
        # (convolved positions, rate): rows of the tokens of each
        rows = (begins + (place - 1) * self.rate)[later][:, None] + torch.arange(self.rate, device=x.device)
        convolved = self.act(torch.einsum("pri,oir->po", x[rows], self.conv.weight) + self.conv.bias)
        # Row of each position in the first states and then the convolved ones, (positions,).
        order = torch.where(later, later.cumsum(0) - 1, 0)
        firsts = x[begins]  # (positions, width)
        if convolved.shape[0]:
            firsts = torch.where(later[:, None], convolved[order], firsts)
        return self.norm(firsts)


class Upsampler(nn.Module):
    """Tokens beside the downsampled states that they belong to, through a convolution: (tokens, width).

    Args:
        rate: of the downsampling. kernel: tokens that the convolution looks at.
    """

    def __init__(self, width: int, *, rate: int, kernel: int, act: str, eps: float, dropout: float) -> None:
        super().__init__()
        self.conv = Convolution(2 * width, width, kernel)
        self.act, self.norm, self.dropout = activation(act), LayerNorm(width, eps), Dropout(dropout)
        self.rate, self.kernel = rate, kernel

    def forward(self, x: Tensor, deep: Tensor, runs: SequenceLayout, shorter: SequenceLayout) -> Tensor:
        """Map states (tokens, width) and downsampled ones (positions, width) to (tokens, width)."""
        place, text = positions_in_sequences(runs, x.device), sequence_ids(runs, x.device)  # (tokens,) each
        lengths, begins, counts = (
            torch.tensor(each, device=x.device)[text] for each in (runs.lengths, shorter.begins, shorter.lengths)
        )
        # The tokens left at the end belong to the last position.
        own = deep[begins + torch.minimum(1 + place // self.rate, counts - 1)]  # (tokens, width)
        pairs = torch.cat([x, own], -1)  # (tokens, 2 width)
        out: Tensor = self.conv.bias  # (width,), then (tokens, width)
        for number in range(self.kernel):  # one product a tap needs no copy of every token's neighbours
            step = number - (self.kernel - 1) // 2
            product = F.linear(pairs, self.conv.weight[:, :, number])  # (tokens, width)
            real = (place + step >= 0) & (place + step < lengths)
            out = out + product.roll(-step, 0) * real[:, None]
        return self.dropout(self.norm(self.act(out)))


class DownsampledStack(Stack):
    """A layer of tokens, deep layers of fewer positions, and a layer of tokens again.

    Args:
        enter, leave: the layers of tokens. down, up: between these and the deep layers.
    """

    def __init__(
        self,
        embed: Embeddings,
        layers: Sequence[nn.Module],
        *,
        enter: nn.Module,
        down: Downsampler,
        up: Upsampler,
        leave: nn.Module,
    ) -> None:
        super().__init__(embed, layers)
        self.enter, self.down, self.up, self.leave = enter, down, up, leave

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, width) to hidden states (tokens, width)."""
        context = context if self.adjust is None else self.adjust(context)
        runs, device = context.runs, context.positions.device
        seen, capture = context.capture.hidden, OutputCapture(attentions=context.capture.attentions)
        shorter = self.down.lengths(runs)
        x = self.embed(words, context)  # (tokens, width)
        chars = self._through(self.enter, x, context, None)  # (tokens, width)
        place = positions_in_sequences(shorter, device)
        inner = replace(context, positions=place, runs=shorter, ids=None, segments=None, capture=capture, _cached={})
        states = [self.down(chars, runs, shorter)]  # (positions, width) each
        for layer in self.layers:
            states.append(self._through(layer, states[-1], inner, None))
        context.share(DownsampledStack, select_tokens(states[-1], shorter, 0))  # (sequences, width)
        mixed = self.up(chars, states[-1], runs, shorter)  # (tokens, width)
        out = self._through(self.leave, mixed, context, None)
        if seen is not None:
            seen += [x, chars, *(ShorterStates(state, shorter) for state in states), mixed, out]
        return out


def first_downsampled(hidden: Tensor, context: ForwardContext) -> Tensor:
    """Return the last deep layer's first state of each sequence, (sequences, width)."""
    found: Tensor = context.shared(DownsampledStack)
    return found
