"""Attention to what is near and to a few tokens from everywhere, block by block: cost grows with a text's length.

Longformer (Beltagy et al., 2020, arXiv:2004.05150).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..kernels.sight import Runs, Sight
from .attention import Attention
from .cache import KeyValues
from .call import Call
from .local import Blocks
from .stack import Stack
from .weights import Linear

GLOBAL = "global_attention_mask"  # in `Call.given`: (tokens,), nonzero at tokens that see all and that all see
Rule = Callable[[Call], Tensor]  # which tokens these are, where a caller does not say


class GlobalStack(Stack):
    """A stack whose layers let some tokens see everything.

    `rule`, which a head may set, chooses these tokens where a caller does not.
    """

    rule: Rule | None = None

    def forward(self, words: Tensor, call: Call) -> Tensor:
        if self.rule is not None and GLOBAL not in call.given:
            call = replace(call, given={**call.given, GLOBAL: self.rule(call)})
        return super().forward(words, call)


def first_tokens(call: Call) -> Tensor:
    """Each text's first token."""
    marks = torch.zeros(call.positions.shape[0], dtype=torch.bool, device=call.positions.device)
    marks[[begin for begin, length in zip(call.runs.begins, call.runs.lengths, strict=True) if length]] = True
    return marks


class GlobalLocalAttention(Attention):
    """A token sees those at most `window // 2` places away and the global ones; global tokens see all.

    Global tokens ask, and are answered, through projections of their own.

    Args:
        window: tokens on both sides together.
    """

    def __init__(self, width: int, heads: int, *, window: int, dropout: float = 0.0) -> None:
        super().__init__(width, heads, dropout=dropout)
        self.q_global, self.k_global, self.v_global = (Linear(width, width) for _ in range(3))
        self.reach = window // 2 + 1

    def _heads(self, x: Tensor, call: Call, memory: KeyValues | None) -> Tensor:
        q, k, v = self._project(x)
        marks = call.given.get(GLOBAL)
        marks = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device) if marks is None else marks > 0
        chosen = call.once((GLOBAL, "runs"), lambda: self._chosen(marks, call.runs))
        whole = call.record.attentions is not None  # shown weights are a matrix a text
        size = max(call.runs.longest, 1) if whole else max(self.reach, 128)
        blocks = call.once((Blocks, self.reach, size), lambda: Blocks.of(call.runs, size, self.reach))
        rows, keys = call.once(
            (GLOBAL, self.reach, size), lambda: self._rows(blocks, marks.nonzero().flatten(), chosen, x.device)
        )
        shown: list[list[Tensor]] | None = [] if whole else None
        bias = self._hidden(blocks, marks, chosen, q)
        mixed = self._mix(q, k[rows], v[rows], Sight(blocks.queries, keys), bias, call, shown)
        if call.record.attentions is not None and shown is not None:
            call.record.attentions.append(self._whole(shown[0], blocks, call.runs, marks))
        if not sum(chosen.lengths):
            return mixed
        asking = marks.nonzero().flatten()
        asked = self._split(self.q_global(x[asking]))
        k, v = self._split(self.k_global(x)), self._split(self.v_global(x))
        return mixed.index_copy(0, asking, self._mix(asked, k, v, Sight(chosen, call.runs), None, call, None))

    def _chosen(self, marks: Tensor, runs: Runs) -> Runs:
        """Where each text's global tokens lie among all global tokens."""
        counts = [int(part.sum()) for part in marks.split(runs.lengths)]
        return Runs.of(tuple(counts))

    def _rows(self, blocks: Blocks, marked: Tensor, chosen: Runs, device: torch.device) -> tuple[Tensor, Runs]:
        """Rows of each block's keys, the near ones and then its text's global ones, and where each block's are."""
        parts, lengths = [], []
        for text, begin, length in zip(blocks.texts, blocks.keys.begins, blocks.keys.lengths, strict=True):
            first, count = chosen.begins[text], chosen.lengths[text]
            parts += [torch.arange(begin, begin + length, device=device), marked[first : first + count]]
            lengths.append(length + count)
        empty = torch.zeros(0, dtype=torch.long, device=device)
        return torch.cat([*parts, empty]), Runs.of(tuple(lengths))

    def _hidden(self, blocks: Blocks, marks: Tensor, chosen: Runs, q: Tensor) -> Callable[[int], Tensor]:
        """Gives each block's (1, queries, keys): lowest at near keys out of reach, and at those that are global."""
        lowest = torch.finfo(q.dtype).min

        def of(block: int) -> Tensor:
            begin, keys = blocks.keys.begins[block], blocks.keys.lengths[block]
            place, queries = blocks.queries.begins[block] - begin, blocks.queries.lengths[block]
            ahead = torch.arange(keys, device=q.device) - torch.arange(place, place + queries, device=q.device)[:, None]
            out = (ahead.abs() >= self.reach) | marks[begin : begin + keys]
            near = q.new_zeros(queries, keys).masked_fill(out, lowest)
            count = chosen.lengths[blocks.texts[block]]
            return torch.nn.functional.pad(near, (0, count))[None]

        return of

    def _whole(self, shown: list[Tensor], blocks: Blocks, runs: Runs, marks: Tensor) -> list[Tensor]:
        """Weights (heads, length, length) of each text's local queries; a text without tokens has none."""
        heads = shown[0].shape[0] if shown else 1
        out = [marks.new_zeros(heads, 0, 0, dtype=torch.float32) for _ in runs.lengths]
        for text, p in zip(blocks.texts, shown, strict=True):
            begin, length = runs.begins[text], runs.lengths[text]
            places = marks[begin : begin + length].nonzero().flatten()
            out[text] = p[..., :length].index_add(2, places, p[..., length:])
        return out
