"""Byte Latent Transformer (Pagnoni et al., 2024, arXiv:2412.09871): layers of bytes around layers of patches of bytes.

A patch begins where the next byte is hard to guess for a small model of bytes. The deep layers run once a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels.ragged import AttentionMask, SequenceLayout
from .cache.layer_cache import LayerCache, NoLayerCache
from .embeddings import Embeddings
from .forward_context import ForwardContext, OutputCapture
from .norms import RMSNorm
from .ragged import ShorterStates, positions_in_sequences, sequence_ids
from .stack import Stack
from .weights import Embedding, Linear

PRIMES = (
    *(1000000007, 5915587277, 1500450271, 3267000013, 5754853343, 4093082899),
    *(9576890767, 3628273133, 2860486313, 5463458053, 3367900313),
)  # one a hash function, of the published code


def wrapped(number: int) -> int:
    """Return an integer as 64 bits with a sign hold it."""
    return (number + 2**63) % 2**64 - 2**63


class ByteGroupEmbeddings(Embeddings):
    """Embeddings of bytes, to which those of the groups of bytes that end there are added, found by hashes.

    Args:
        sizes: bytes of the groups. buckets: rows of each table. hashes: tables for each size.
    """

    def __init__(
        self, token: nn.Embedding, *, sizes: Sequence[int], buckets: int, hashes: int, dropout: float = 0.0
    ) -> None:
        super().__init__(token, dropout=dropout)
        self.sizes, self.buckets, self.hashes = tuple(sizes), buckets, hashes
        self.groups = Embedding(buckets * hashes * len(self.sizes), token.embedding_dim)

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Add the groups to embeddings of bytes (tokens, width); given vectors are whole already."""
        if context.ids is not None:
            for rows in self._rows(context.ids, context.runs):
                words = words + self.groups(rows)
        return super().forward(words, context)

    def _rows(self, ids: Tensor, runs: SequenceLayout) -> list[Tensor]:
        """Return the rows (tokens,) of each table. Groups that begin before the text hold zeros there."""
        places = positions_in_sequences(runs, ids.device)  # (tokens,)
        # Bytes at each distance back, (tokens,) each.
        back = [torch.where(places >= n, ids.roll(n), 0).long() for n in range(max(self.sizes))]
        rows: list[Tensor] = []
        for table in range(self.hashes):
            prime = PRIMES[table % len(PRIMES)]
            for size in self.sizes:
                found = torch.zeros_like(back[0])  # a sum in 64 bits, which overflows as in the published code
                for n in range(size):
                    found = found + back[size - 1 - n] * wrapped(prime**n)
                rows.append(found % self.buckets + len(rows) * self.buckets)
        return rows


class EntropyModel(nn.Module):
    """Small language model of bytes, whose entropy says where patches begin. It never learns with the rest.

    Args:
        layers: causal layers.
    """

    def __init__(self, token: nn.Embedding, layers: Sequence[nn.Module], norm: nn.Module, threshold: float) -> None:
        super().__init__()
        self.token, self.layers, self.norm = token, nn.ModuleList(layers), norm
        self.table = Linear(token.embedding_dim, token.num_embeddings, bias=False)
        self.threshold = threshold
        self.requires_grad_(False)

    def forward(self, ids: Tensor, context: ForwardContext) -> Tensor:
        """Return which bytes are followed by the begin of a patch, (tokens,), of ids (tokens,)."""
        with torch.no_grad():
            x, plain = self.token(ids), replace(context, capture=OutputCapture(), _cached={})
            for layer in self.layers:
                x = layer(x, plain, None)  # (tokens, width)
            logs = self.table(self.norm(x)).float().log_softmax(-1)  # (tokens, vocabulary)
            return -(logs.exp() * logs).sum(-1) > self.threshold


@dataclass(frozen=True)
class Patches:
    """Patches of the bytes of a batch.

    Args:
        of: (tokens,), the patch of each byte. inside: bytes of each patch.
        readers: bytes that read each patch, those after its end up to the end of the next one, less one each.
        runs: patches of each text.
    """

    of: Tensor
    inside: SequenceLayout
    readers: SequenceLayout
    runs: SequenceLayout

    @classmethod
    def begun(cls, ends: Tensor, runs: SequenceLayout) -> Patches:
        """Build the patches; `ends` (tokens,) is True at bytes that a patch follows."""
        places, texts = positions_in_sequences(runs, ends.device), sequence_ids(runs, ends.device)  # (tokens,) each
        ends = ends | (places == 0)  # a text's first byte is a patch of its own
        begins = (places == 0) | ends.roll(1)
        of = begins.cumsum(0) - 1  # (tokens,)
        # A byte is written with the last patch that is whole when it has been read.
        read = of + ends.long() - 1
        read = torch.where(places == 0, of, read)
        count = int(begins.sum())
        inside, readers = (tuple(torch.bincount(x, minlength=count).tolist()) for x in (of, read))
        lengths = tuple(torch.bincount(texts[begins], minlength=len(runs)).tolist())
        return cls(of, *(SequenceLayout.packed(x) for x in (inside, readers, lengths)))


class PatchAttention(nn.Module):
    """Attention between bytes and patches, with norms and a residual sum of its own."""

    def __init__(self, width: int, heads: int, key_heads: int, eps: float) -> None:
        super().__init__()
        self.head_width = width // heads
        self.q, self.out = (Linear(width, heads * self.head_width, bias=False) for _ in range(2))
        self.k, self.v = (Linear(width, key_heads * self.head_width, bias=False) for _ in range(2))
        self.q_norm, self.k_norm = RMSNorm(width, eps), RMSNorm(width, eps)

    def forward(self, x: Tensor, source: Tensor, attention_mask: AttentionMask, context: ForwardContext) -> Tensor:
        """Map states (queries, width), given (keys, width), to (queries, width)."""
        source = self.k_norm(source)
        given = self.q(self.q_norm(x)), self.k(source), self.v(source)
        q, k, v = (part.unflatten(-1, (-1, self.head_width)) for part in given)  # (rows, heads, head width) each
        mixed = context.attend(q, k, v, attention_mask, scale=self.head_width**-0.5)
        return x + self.out(mixed.flatten(1))


class PatchedStack(Stack):
    """Layers of bytes, deep layers of patches, and layers of bytes again that read the patches.

    A text is read whole in each pass, since a new byte changes its patch.

    Args:
        layers, norm: the last layers, and the norm after them. enter: the first ones. deep: those of patches.
        gather: attention of patches to their bytes. spread: attention of bytes to patches, before the first layers of
            `layers`. each: states of a patch that bytes read, and that its bytes are read into.
        widths: of bytes and of patches. finder: says where patches begin; None for a patch a byte.
    """

    def __init__(
        self,
        embed: Embeddings,
        layers: Sequence[nn.Module],
        norm: nn.Module,
        *,
        enter: Sequence[nn.Module],
        deep: Sequence[nn.Module],
        gather: PatchAttention,
        spread: Sequence[PatchAttention],
        each: int,
        widths: tuple[int, int],
        finder: EntropyModel | None,
    ) -> None:
        super().__init__(embed, layers, norm)
        width, deep_width = widths
        self.enter, self.deep, self.each, self.finder = nn.ModuleList(enter), nn.ModuleList(deep), each, finder
        self.gather, self.gather_into = gather, Linear(width, each * width, bias=False)
        same = each * width == deep_width
        self.deep_into = nn.Identity() if same else Linear(each * width, deep_width, bias=False)
        self.spread, self.spread_into = nn.ModuleList(spread), Linear(deep_width, each * width, bias=False)

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    @property
    def remembers(self) -> bool:
        return False

    def memories(self) -> list[LayerCache]:
        return [NoLayerCache()]

    def patches(self, words: Tensor, context: ForwardContext) -> Patches:
        """Return the patches of a pass. Raises InvalidInput for vectors, of which no byte is known."""
        if self.finder is None:
            return Patches.begun(torch.ones(len(words), dtype=torch.bool, device=words.device), context.runs)
        if context.ids is None:
            raise InvalidInput("Patches are found in bytes: give input_ids, not inputs_embeds.")
        return Patches.begun(self.finder(context.ids, context), context.runs)

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map embeddings of bytes (tokens, width) to hidden states (tokens, width)."""
        context = context if self.adjust is None else self.adjust(context)
        if context.cache is not None and any(context.cache.lengths):
            raise InvalidInput("This model reads a text whole in each pass: give all of it, without past_key_values.")
        seen, found = context.capture.hidden, self.patches(words, context)
        states = [self.embed(words, context)]  # (tokens, width) each
        for layer in self.enter:
            states.append(self._through(layer, states[-1], context, None))
        deep = self._deep(states[-1], found, context)  # (patches, deep width) each
        several = SequenceLayout.packed((self.each,) * len(found.inside))
        parts = self.spread_into(deep[-1]).unflatten(-1, (self.each, -1)).flatten(0, 1)  # (patches * each, width)
        x, attention_mask = states[-1], AttentionMask(found.readers, several)
        for number, layer in enumerate(self.layers):
            if number < len(self.spread):
                x = x + self.spread[number](x, parts, attention_mask, context)
            x = self._through(layer, x, context, None)
            states.append(x)
        if context.cache is not None:
            context.cache.advance(context.runs)
        x = self.norm(x)
        if seen is not None:
            after = len(self.enter) + 1
            seen += [*states[:after], *(ShorterStates(state, found.runs) for state in deep), *states[after:-1], x]
        return x

    def _deep(self, x: Tensor, found: Patches, context: ForwardContext) -> list[Tensor]:
        """Return the states of patches (patches, deep width) before and after each deep layer, of bytes' states."""
        patches = len(found.inside)
        rows = found.of[:, None].expand(-1, x.shape[1])
        top = x.new_zeros(patches, x.shape[1]).scatter_reduce(0, rows, x, "amax", include_self=False)
        parts = self.gather_into(top).unflatten(-1, (self.each, -1)).flatten(0, 1)  # (patches * each, width)
        several = SequenceLayout.packed((self.each,) * patches)
        parts = parts + self.gather(parts, x, AttentionMask(several, found.inside), context)
        states = [self.deep_into(parts.unflatten(0, (patches, self.each)).flatten(1))]  # (patches, deep width)
        capture = OutputCapture(attentions=context.capture.attentions)
        place = positions_in_sequences(found.runs, x.device)
        inner = replace(
            context, positions=place, runs=found.runs, ids=None, segments=None, cache=None, capture=capture, _cached={}
        )
        for layer in self.deep:
            states.append(self._through(layer, states[-1], inner, None))
        return states
