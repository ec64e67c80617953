"""Optimizer steps on some rows of a table, where the C++ kernels serve."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import byref
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from .cpu import native
from .layout import plain


def serves(table: Tensor) -> bool:
    """Whether `adam` can compute with a table."""
    return table.dtype is torch.float32 and table.is_contiguous() and native.serves(table.detach())


def _fits(table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor) -> bool:
    """Whether all of it lies as the kernel reads it."""
    known = all(plain(x, table, torch.float32, *table.shape) for x in (table, first, second))
    known = known and plain(gradient, table, torch.float32, len(rows), table.shape[1])
    known = known and plain(rows, table, torch.int64, len(rows))
    return known and (not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(table)))


def adam(
    table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor, step: float, group: Mapping[str, Any]
) -> None:
    """One step of Adam (Kingma and Ba, 2015, arXiv:1412.6980) on some rows of a table (all rows, width), in place.

    Args:
        table: one that `serves`. first, second: moments, like it. gradient: (rows, width). rows: which, int64.
        step: counted from 1. group: `lr`, `betas` and `eps`.

    Raises:
        InvalidInput: tensors of other shapes or precisions, or with gaps, or rows that the table does not have.
    """
    if not _fits(table, first, second, gradient, rows):
        raise InvalidInput(
            f"Adam's moments must be like their table, {list(table.shape)} in float32, and its gradient have a row for "
            "each of the table's rows that are named."
        )
    beta1, beta2 = group["betas"]
    said = native.Adam(
        table=table.data_ptr(), first=first.data_ptr(), second=second.data_ptr(), gradient=gradient.data_ptr(),
        rows=rows.data_ptr(), count=len(rows), width=table.shape[1], rate=group["lr"] / (1 - beta1**step),
        root=1 / sqrt(1 - beta2**step), beta1=beta1, beta2=beta2, eps=group["eps"],
    )  # fmt: skip
    library = native.library()
    assert library is not None
    library.mh_adam(byref(said), torch.get_num_threads())
