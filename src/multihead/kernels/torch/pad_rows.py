"""Rows to a padded batch and back, with gradients that copy rows instead of adding them up one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class PadRows(torch.autograd.Function):
    """Rows of x (rows, ...) in cells: `x[index]`, each row in one real cell at most.

    Padding cells hold row 0 and get no gradient, so nothing may depend on them.

    Args:
        index: (cells,), the row of each cell. rows, cells: (real,), the row and the cell of each token.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        ctx.shape = x.shape
        ctx.save_for_backward(rows, cells)  # indices alone: the gradient does not depend on x
        return x.index_select(0, index)  # (cells, ...)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, cells = ctx.saved_tensors
        real = gradients[0].index_select(0, cells)  # (real, ...)
        # Each row has one cell at most, so a copy is enough: index_select's own gradient adds, which is slow.
        return _scatter(real, rows, ctx.shape), None, None, None


class UniqueRows(torch.autograd.Function):
    """`x[index]` of rows that are all different."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.shape = x.shape
        ctx.save_for_backward(index)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _scatter(gradients[0], ctx.saved_tensors[0], ctx.shape), None


def _scatter(values: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """Return zeros of this shape, with `values` in `rows`."""
    return values.new_zeros(shape).index_copy_(0, rows, values)  # rows that were not taken have no gradient


def pad_rows(x: Tensor, index: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
    """Return `x[index]` by `PadRows` if x has a gradient, else by a plain look-up."""
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return PadRows.apply(x, index, rows, cells)
    return x.index_select(0, index)


def unique_rows(x: Tensor, index: Tensor) -> Tensor:
    """Return `x[index]` by `UniqueRows` if x has a gradient, else by a plain look-up."""
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return UniqueRows.apply(x, index)
    return x.index_select(0, index)
