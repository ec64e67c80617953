"""The inputs of one forward pass besides hidden states: built once, read by every layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..kernels.backend import AttentionFunction
from ..kernels.ops import fused_attention
from ..kernels.ragged import AttentionMask, SequenceLayout
from .cache.store import BatchCache
from .encoder_output import EncoderOutput
from .ragged import sequence_ends

T = TypeVar("T")


@dataclass
class OutputCapture:
    """Collects intermediate results that a caller asked for; a field of None is not collected.

    Args:
        hidden: hidden states (tokens, width), one a layer and the last; `ShorterStates` of pooled sequences.
        attentions, cross_attentions: for each layer a list of (heads, queries, keys), one a sequence.
        routers: scores of the experts (tokens, experts), one a router.
    """

    hidden: list[Any] | None = None
    attentions: list[list[Tensor]] | None = None
    cross_attentions: list[list[Tensor]] | None = None
    routers: list[Tensor] | None = None


@dataclass(frozen=True)
class SelectedTokens:
    """The tokens whose last hidden states a caller needs, sequence by sequence.

    Args:
        rows: (selected tokens,), indices into the packed batch, ascending.
        runs: number of selected tokens of each sequence.
    """

    rows: Tensor
    runs: SequenceLayout

    @classmethod
    def firsts(cls, runs: SequenceLayout, device: torch.device) -> SelectedTokens:
        """Select the first token of each sequence; no sequence may be empty."""
        return cls(torch.tensor(runs.begins, device=device), SequenceLayout.packed((1,) * len(runs)))

    @classmethod
    def lasts(cls, runs: SequenceLayout, counts: Sequence[int], device: torch.device) -> SelectedTokens:
        """Select the last `counts` tokens of each sequence."""
        ends = [begin + length for begin, length in zip(runs.begins, runs.lengths, strict=True)]
        rows = [row for end, count in zip(ends, counts, strict=True) for row in range(end - count, end)]
        return cls(torch.tensor(rows, dtype=torch.long, device=device), SequenceLayout.packed(tuple(counts)))


@dataclass(frozen=True)
class ForwardContext:
    """Positions, sequence layout, cache and options of one forward pass over a packed batch.

    Args:
        positions: (tokens,), read by position embeddings and rotations: each token's position in its sequence, unless
            the caller gave other numbers. Visibility follows from `runs`, `cache` and a layer's own rule alone.
        runs: begin and length of each sequence in the packed batch.
        segments: (tokens,), token types, for the models that have them.
        ids: (tokens,), for layers that search for a token; None where vectors were given instead.
        extra_inputs: a family's own inputs by name, as its `Architecture.inputs` packed them.
        encoder_output: the source that cross-attention reads.
        cache: keys, values and states of earlier passes; None without a cache.
        attend: the backend that computes attention.
        capture: collects hidden states and attentions for the caller.
        selected: the only tokens whose states a stack that `supports_selected_tokens` returns; None for all.
        custom_positions: whether a caller gave the positions.
    """

    positions: Tensor
    runs: SequenceLayout
    segments: Tensor | None = None
    ids: Tensor | None = None
    extra_inputs: Mapping[str, Any] = field(default_factory=dict)
    encoder_output: EncoderOutput | None = None
    cache: BatchCache | None = None
    attend: AttentionFunction = fused_attention
    capture: OutputCapture = field(default_factory=OutputCapture)
    selected: SelectedTokens | None = None
    custom_positions: bool = False
    _cached: dict[Hashable, object] = field(default_factory=dict, repr=False)
    _shared: dict[Hashable, tuple[Any, bool]] = field(default_factory=dict, repr=False)

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, computed once per pass and shared by all layers that use the same key."""
        if key not in self._cached:
            self._cached[key] = compute()
        return self._cached[key]  # type: ignore[return-value]

    def share(self, key: Hashable, value: Any, *, by_token: bool = False) -> None:
        """Keep a value of this pass for later layers, which read it with `shared`.

        Args:
            by_token: the value is a tensor (tokens, ...), a row for each token of the pass.
        """
        self._shared[key] = value, by_token

    def shared(self, key: Hashable) -> Any:
        """Return the value that an earlier part of this pass has shared."""
        return self._shared[key][0]

    def of_last_tokens(self, selected: SelectedTokens) -> ForwardContext:
        """Return the context of some last tokens of each sequence, for layers that compute these alone."""
        shared = {
            key: (value.index_select(0, selected.rows) if by_token else value, by_token)
            for key, (value, by_token) in self._shared.items()
        }
        positions = self.positions.index_select(0, selected.rows)
        return replace(
            self, positions=positions, runs=selected.runs, ids=None, selected=None, _cached={}, _shared=shared
        )

    @property
    def total_lengths(self) -> tuple[int, ...]:
        """Tokens of each sequence with its cached ones; with custom positions, the last position plus one.

        Tokens that a later pass will read count too: rotations must not depend on how a sequence is cut into passes.
        """
        if self.cache is not None:
            return self.cache.totals(self.runs)
        if not self.custom_positions:
            return self.runs.lengths
        return self.cached("total_lengths", lambda: sequence_ends(self.positions, self.runs))

    @property
    def reads_pages(self) -> bool:
        """True if the attention backend can read keys directly from the pages of a paged KV cache."""
        return self.attend is fused_attention and self.capture.attentions is None

    def for_recompute(self) -> ForwardContext:
        """Return a context for a layer that is computed twice, whose cached results do not enter this one's."""
        source = None if self.encoder_output is None else replace(self.encoder_output, _projected={})
        return replace(self, encoder_output=source, _cached=dict(self._cached))

    def attention_mask(self, keys: SequenceLayout, *, causal: bool, window: int | None) -> AttentionMask:
        """Return the visibility of keys under a layer's rule; layers with the same rule share one object."""
        return self.cached((keys, causal, window), lambda: AttentionMask(self.runs, keys, causal, window))
