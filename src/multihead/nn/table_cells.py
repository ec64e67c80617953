"""Tables as sequences of tokens: their embeddings, and the choice of cells (TAPAS, arXiv:2004.02349).

Each token has a list of types, of which the second and third are the numbers of its column and of its row, from 1; both
are 0 for the question, and a header's row is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from .embeddings import Embeddings, check_ids
from .forward_context import ForwardContext
from .ragged import sequence_ids
from .weights import Dropout, Embedding

TYPES = "token_type_ids"
COLUMN, ROW = 1, 2  # among a token's types
EXCLUDED = -10_000.0  # added to the scores of what is not to be chosen


def types_of(context: ForwardContext, kinds: int) -> Tensor:
    """Return the types of each token, (tokens, kinds): zeros where none were given. Raises InvalidInput."""
    given = context.extra_inputs.get(TYPES, context.segments)
    if given is None:
        return context.positions.new_zeros(len(context.positions), kinds)
    if given.ndim != 2 or given.shape[1] != kinds:
        raise InvalidInput(f"A table's {TYPES} need {kinds} numbers a token: (batch, length, {kinds}).")
    return given


def segment_mean(values: Tensor, segments: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of the values (tokens,) of each of `count` segments, 0 for an empty one, and how many it has."""
    size = values.new_zeros(count).index_add(0, segments, torch.ones_like(values))
    return values.new_zeros(count).index_add(0, segments, values) / size.clamp(min=1), size


class TableEmbeddings(Embeddings):
    """Embeddings of tokens, positions and several types of each token.

    Args:
        sizes: number of each type's values. by_cell: positions begin anew in each cell.
    """

    def __init__(self, token: nn.Embedding, sizes: Sequence[int], width: int, *, by_cell: bool, **options: Any) -> None:
        super().__init__(token, typed=True, **options)
        self.kinds, self.by_cell = nn.ModuleList(Embedding(size, width) for size in sizes), by_cell

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Add positions and types to token embeddings, (tokens, width)."""
        types = types_of(context, len(self.kinds))
        x = words + self.position(self._places(types, context))  # type: ignore[misc]
        for number, table in enumerate(self.kinds):
            check_ids(types[:, number], table.num_embeddings, f"{TYPES} {number}", "table of types")  # type: ignore[arg-type]
            x = x + table(types[:, number])
        return self.project(self.dropout(self.norm(x)))

    def _places(self, types: Tensor, context: ForwardContext) -> Tensor:
        """Return each token's position in its cell, (tokens,), the last one for all after it."""
        if context.custom_positions or not self.by_cell:
            return context.positions
        texts = sequence_ids(context.runs, types.device)
        _, cells = torch.unique(torch.stack([texts, types[:, COLUMN], types[:, ROW]], 1), dim=0, return_inverse=True)
        firsts = context.positions.new_full((len(types) + 1,), len(types))
        firsts = firsts.scatter_reduce(0, cells, context.positions, "amin")
        last = self.position.count - 1  # type: ignore[union-attr, operator]
        return (context.positions - firsts[cells]).clamp(max=last)


class CellChoice(nn.Module):
    """Scores of the tokens of one column's cells, (tokens,), and of aggregations of them, (sequences, aggregations).

    All tokens of a cell have its mean score; those of other columns than the best one are excluded.

    Args:
        rows, columns: of a table; higher numbers count as the last. kinds: types of a token.
        temperature: of cells' scores. empty: no column may be chosen. dense: of the first state.
        aggregations: their number, 0 for none.
    """

    def __init__(
        self,
        width: int,
        *,
        rows: int,
        columns: int,
        kinds: int,
        temperature: float,
        empty: bool,
        dense: nn.Module,
        aggregations: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.rows, self.columns, self.kinds, self.temperature, self.empty = rows, columns, kinds, temperature, empty
        self.dense, self.dropout = dense, Dropout(dropout)
        self.cell, self.column = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.cell_bias, self.column_bias = nn.Parameter(torch.empty(())), nn.Parameter(torch.empty(()))
        self.aggregate = nn.Linear(width, aggregations) if aggregations else None

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize a weight or a bias of the scores."""
        if parameter.ndim:
            parameter.normal_(0.0, std)
        else:
            parameter.zero_()

    def forward(self, hidden: Tensor, context: ForwardContext) -> dict[str, Tensor | None]:
        """Return `logits`, `logits_aggregation`, and what the loss reads of the cells."""
        types, texts = types_of(context, self.kinds), sequence_ids(context.runs, hidden.device)
        rows, columns = (
            types[:, part].clamp(max=most - 1) for part, most in ((ROW, self.rows), (COLUMN, self.columns))
        )
        count = len(context.runs)
        cells = (texts * self.rows + rows) * self.columns + columns  # (tokens,)
        x = self.dropout(hidden)
        shape = (count, self.rows, self.columns)
        every = count * self.rows * self.columns
        means, size = segment_mean(self._scores(x, self.cell, self.cell_bias) / self.temperature, cells, every)
        there = (size > 0).float().view(shape)
        ones = segment_mean(self._scores(x, self.column, self.column_bias), cells, every)[0]
        best = self._columns(ones.view(shape), there)
        chosen = nn.functional.one_hot(best.argmax(-1), self.columns).float()  # (sequences, columns)
        chosen[:, 0] = 0.0  # which is the question's
        means = means.view(shape)
        scores = means + EXCLUDED * (1.0 - there * chosen[:, None])  # (sequences, rows, columns)
        first = context.runs.begins if len(hidden) else ()
        pooled = self.dense(hidden[torch.tensor([min(b, len(hidden) - 1) for b in first], device=x.device).long()])
        return {
            "logits": scores.flatten()[cells],
            "logits_aggregation": None if self.aggregate is None else self.aggregate(pooled),
            "means": means,
            "there": there,
            "columns": best,
            "cells": cells,
        }

    @staticmethod
    def _scores(x: Tensor, table: Tensor, bias: Tensor) -> Tensor:
        """Return scores of tokens in float32: half precision has one value for columns that are close."""
        return x.float() @ table.float() + bias.float()

    def _columns(self, scores: Tensor, there: Tensor) -> Tensor:
        """Return scores of columns (sequences, columns): the means of their cells'."""
        count = there.sum(1)
        means = (scores * there).sum(1) / (count + 1e-10)
        absent = count < 0.5
        absent[:, 0] = not self.empty
        return means + EXCLUDED * absent


def choice_loss(found: dict[str, Any], labels: Tensor) -> Tensor:
    """Return the loss of the column and of its cells, (sequences,). `labels`: (tokens,), 1 for tokens of the answer."""
    means, there, cells = found["means"], found["there"], found["cells"]
    shape = means.shape
    wanted = means.new_zeros(means.numel()).index_add(0, cells, labels.to(means.dtype)).view(shape)
    columns = wanted.sum(1)  # (sequences, columns): how many tokens of the answer each has
    column = columns.argmax(-1) * (columns.amax(-1) > 0)
    loss = nn.functional.cross_entropy(found["columns"].float(), column, reduction="none")
    mask = there * nn.functional.one_hot(column, shape[2]).to(means.dtype)[:, None]
    one = nn.functional.binary_cross_entropy_with_logits(means, (wanted > 0).to(means.dtype), reduction="none")
    cell = (one * mask).sum((1, 2)) / (mask.sum((1, 2)) + 1e-10)
    return loss + cell * (columns.amax(-1) > 0)
