"""Pooling of hidden states to one embedding a text (Sentence-BERT, Reimers and Gurevych, 2019, arXiv:1908.10084)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.ragged import SequenceLayout
from ..nn.ragged import positions_in_sequences, select_tokens, sequence_ids


@dataclass(frozen=True)
class TokenStates:
    """Hidden states to pool.

    Args:
        states: (tokens, width), texts packed end to end. runs: lengths and starts of the texts.
        positions: (tokens,), of each token in its whole text, counting tokens that are not pooled.
    """

    states: Tensor
    runs: SequenceLayout
    positions: Tensor

    @classmethod
    def of(cls, hidden: Tensor, runs: SequenceLayout, skip: int = 0) -> TokenStates:
        """Return the states of packed texts without the first `skip` tokens of each."""
        order = positions_in_sequences(runs, hidden.device)
        if not skip:
            return cls(hidden, runs, order)
        pooled = order >= skip
        return cls(hidden[pooled], SequenceLayout.packed(tuple(max(0, n - skip) for n in runs.lengths)), order[pooled])

    @property
    def counts(self) -> Tensor:
        """Number of tokens of each text, at least 1: (texts, 1)."""
        return torch.tensor(self.runs.lengths, device=self.states.device).clamp(min=1)[:, None]

    def sum(self, weights: Tensor | None = None) -> Tensor:
        """Return the sum of each text's states times `weights` (tokens, 1): (texts, width), in float32 or wider."""
        states = self.states.to(torch.promote_types(self.states.dtype, torch.float32))
        states = states if weights is None else states * weights
        return states.new_zeros(len(self.runs), states.shape[1]).index_add_(0, self._texts, states)

    def max(self) -> Tensor:
        """Return the elementwise maximum of each text's states: (texts, width); zeros for a text without tokens."""
        result = self.states.new_zeros(len(self.runs), self.states.shape[1])
        index = self._texts[:, None].expand_as(self.states)
        return result.scatter_reduce_(0, index, self.states, "amax", include_self=False)

    @property
    def _texts(self) -> Tensor:
        """Number of the text of each token: (tokens,)."""
        return sequence_ids(self.runs, self.states.device)


def first_token(tokens: TokenStates) -> Tensor:
    return select_tokens(tokens.states, tokens.runs, 0)


def last_token(tokens: TokenStates) -> Tensor:
    return select_tokens(tokens.states, tokens.runs, -1)


def mean(tokens: TokenStates) -> Tensor:
    return tokens.sum() / tokens.counts


def mean_sqrt_length(tokens: TokenStates) -> Tensor:
    """Return the sum of states over the square root of the number of tokens."""
    return tokens.sum() / tokens.counts.sqrt()


def weighted_mean(tokens: TokenStates) -> Tensor:
    """Return the mean weighted by positions from 1 (SGPT, Muennighoff, 2022, arXiv:2202.08904)."""
    weights = (tokens.positions + 1)[:, None]
    total = TokenStates(weights.float(), tokens.runs, tokens.positions).sum()
    return tokens.sum(weights) / total.clamp(min=1)


MODES: Mapping[str, Callable[[TokenStates], Tensor]] = {  # by their names in Pooling's config.json
    "cls": first_token,
    "max": TokenStates.max,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_length,
    "weightedmean": weighted_mean,
    "lasttoken": last_token,
}
