"""A text's states to one vector (Sentence-BERT, Reimers and Gurevych, 2019, arXiv:1908.10084)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.ragged import SequenceLayout
from ..nn.ragged import positions_in_sequences, select_tokens, sequence_ids


@dataclass(frozen=True)
class Tokens:
    """The states that are pooled.

    Args:
        states: (tokens, width), texts end to end. runs: where each text lies among them.
        places: (tokens,), each token's place in its whole text, tokens that are not pooled included.
    """

    states: Tensor
    runs: SequenceLayout
    places: Tensor

    @classmethod
    def of(cls, hidden: Tensor, runs: SequenceLayout, skip: int = 0) -> Tokens:
        """All tokens of texts that lie end to end but the first `skip` of each."""
        order = positions_in_sequences(runs, hidden.device)
        if not skip:
            return cls(hidden, runs, order)
        kept = order >= skip
        return cls(hidden[kept], SequenceLayout.packed(tuple(max(0, n - skip) for n in runs.lengths)), order[kept])

    @property
    def counts(self) -> Tensor:
        """(texts, 1): tokens of each text, at least 1."""
        return torch.tensor(self.runs.lengths, device=self.states.device).clamp(min=1)[:, None]

    def total(self, weights: Tensor | None = None) -> Tensor:
        """(texts, width): the sum of each text's states times `weights` (tokens, 1), in float32 or wider."""
        states = self.states.to(torch.promote_types(self.states.dtype, torch.float32))
        states = states if weights is None else states * weights
        return states.new_zeros(len(self.runs), states.shape[1]).index_add_(0, self._texts, states)

    def largest(self) -> Tensor:
        """(texts, width): the largest of each text's states, number by number; zeros for a text without tokens."""
        found = self.states.new_zeros(len(self.runs), self.states.shape[1])
        where = self._texts[:, None].expand_as(self.states)
        return found.scatter_reduce_(0, where, self.states, "amax", include_self=False)

    @property
    def _texts(self) -> Tensor:
        return sequence_ids(self.runs, self.states.device)


def first(tokens: Tokens) -> Tensor:
    return select_tokens(tokens.states, tokens.runs, 0)


def last(tokens: Tokens) -> Tensor:
    return select_tokens(tokens.states, tokens.runs, -1)


def mean(tokens: Tokens) -> Tensor:
    return tokens.total() / tokens.counts


def mean_by_root(tokens: Tokens) -> Tensor:
    """The sum over the square root of the number of tokens."""
    return tokens.total() / tokens.counts.sqrt()


def weighted_mean(tokens: Tokens) -> Tensor:
    """The mean where a token weighs as much as its place, from 1 (SGPT, Muennighoff, 2022, arXiv:2202.08904)."""
    weights = (tokens.places + 1)[:, None]
    total = Tokens(weights.float(), tokens.runs, tokens.places).total()
    return tokens.total(weights) / total.clamp(min=1)


MODES: Mapping[str, Callable[[Tokens], Tensor]] = {  # by the names that Pooling's config.json gives
    "cls": first,
    "max": Tokens.largest,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_by_root,
    "weightedmean": weighted_mean,
    "lasttoken": last,
}
