"""Log-probabilities of tokens after prompts, by a language model that reads shared beginnings of prompts once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..token_batches import budget
from .base import ForwardPipeline, packed_positions
from .shared_prefixes import can_share, prefix_batches, read_shared
from .streaming_batcher import ModelInput

HEAD_ROWS = 512  # states that the head scores at once: a row has as many numbers as the vocabulary has tokens


@dataclass(frozen=True)
class ScoredTokens:
    """Tokens of a model input whose log-probabilities are wanted: `tokens[i]` after `positions[i]`.

    Args:
        words: numbers of the words that the tokens are. single_word: all tokens are one word.
        prompt: number of the prompt.
    """

    positions: Sequence[int]
    tokens: Sequence[int]
    words: Sequence[int]
    single_word: bool
    prompt: int = 0


class TokenScorer(ForwardPipeline):
    """Base of pipelines that score tokens after prompts. The note of each model input is its `ScoredTokens`."""

    auto = "AutoModelForCausalLM"

    @cached_property
    def shares_prefixes(self) -> bool:
        """True if the beginning that prompts share is read once; its keys and values serve all of them."""
        return can_share(self.model)

    def batches(self, inputs: Sequence[ModelInput], o: Any) -> Iterator[list[int]]:
        most = o.token_budget or budget(self.device)
        return prefix_batches([each.ids for each in inputs], most, o.batch_size, shares=self.shares_prefixes)

    def weights_state(self) -> Any:
        """Return a value that changes when the model computes other numbers: other adapters, weights or precision."""
        versions = sum(0 if p.is_inference() else p._version for p in self.model.parameters())
        return self.precision, str(self.device), self.model.adapter_sources, versions

    def forward_batch(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Tensor]:
        """Return the log-probability of each input's tokens (tokens,)."""
        sequences = [each.ids for each in inputs]
        if self.shares_prefixes:
            hidden, tree = read_shared(self.model, sequences)
            rows = [tree.row(n, position) for n, each in enumerate(inputs) for position in each.note.positions]
        else:
            hidden = self.model.run(sequences, at=[]).hidden
            rows = packed_positions(inputs, [each.note.positions for each in inputs])
        tokens = [token for each in inputs for token in each.note.tokens]
        return self.log_probabilities(hidden, rows, tokens).split([len(each.note.tokens) for each in inputs])

    def log_probabilities(self, hidden: Tensor, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Return the log-probability of each token (tokens,) after the state of its row in `hidden` (rows, width)."""
        distinct = sorted(set(rows))
        place = {row: number for number, row in enumerate(distinct)}
        wanted = torch.tensor([place[row] for row in rows])
        found = torch.empty(len(tokens))
        for begin in range(0, len(distinct), HEAD_ROWS):
            part = torch.tensor(distinct[begin : begin + HEAD_ROWS], device=hidden.device)
            scores = self.model.score_states(hidden[part]).float().log_softmax(-1).cpu()  # (rows, vocabulary)
            own = ((wanted >= begin) & (wanted < begin + HEAD_ROWS)).nonzero()[:, 0]
            found[own] = scores[wanted[own] - begin, torch.tensor(tokens)[own]]
        return found
