"""Between tokens end to end and a padded grid, with gradients that move rows instead of adding them up one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Gathered(torch.autograd.Function):
    """Rows of x (rows, ...) in a grid: `x[index]`, each row at one real cell at most.

    Cells without a row of their own hold row 0, and get no gradient: nothing may depend on them.

    Args:
        index: (cells,), the row of each cell. rows, cells: (real,), which row stands at which cell.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        ctx.shape = x.shape
        ctx.save_for_backward(rows, cells)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, cells = ctx.saved_tensors
        real = gradients[0].index_select(0, cells)
        return _spread(real, rows, ctx.shape), None, None, None


class Picked(torch.autograd.Function):
    """`x[index]` of rows that are all different."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.shape = x.shape
        ctx.save_for_backward(index)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _spread(gradients[0], ctx.saved_tensors[0], ctx.shape), None


def _spread(values: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """Zeros of this shape, with `values` at `rows`."""
    return values.new_zeros(shape).index_copy_(0, rows, values)


def gathered(x: Tensor, index: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
    """`Gathered`, where a gradient may be asked for; else the plain look-up."""
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return Gathered.apply(x, index, rows, cells)
    return x.index_select(0, index)


def picked(x: Tensor, index: Tensor) -> Tensor:
    """`Picked`, where a gradient may be asked for; else the plain look-up."""
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return Picked.apply(x, index)
    return x.index_select(0, index)
