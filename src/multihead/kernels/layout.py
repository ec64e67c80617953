"""How tensors lie: what is known of them before their addresses go to kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .ragged import AttentionMask, SequenceLayout


def plain(x: Tensor | None, like: Tensor, dtype: torch.dtype, *shape: int) -> bool:
    """Whether a kernel reads a tensor from its first number on: beside `like`, of this precision and shape, no gaps.

    None, for what is left out, is.
    """
    if x is None:
        return True
    known = type(x) in (Tensor, nn.Parameter) and x.dtype is dtype and x.device == like.device
    return known and x.shape == shape and x.is_contiguous()


def rows_of(x: Tensor) -> Tensor:
    """x (..., width) as (rows, width), the numbers of a row side by side; a copy where they do not lie so."""
    flat = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


def lined(x: Tensor) -> Tensor:
    """x with the numbers of its last dimension side by side; a copy where they do not lie so."""
    return x if x.stride(-1) == 1 else x.contiguous()


def within(attention_mask: AttentionMask, queries: int, keys: int) -> bool:
    """Whether so many rows of queries and of keys hold all that a `AttentionMask` speaks of."""
    told, seen = attention_mask.cached("ends", lambda: (_end(attention_mask.queries), _end(attention_mask.keys)))
    return 0 <= told <= queries and 0 <= seen <= keys


def heads_fit(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether queries, keys and values (rows, heads, width) are of one precision and device, and go together."""
    if not q.dtype == k.dtype == v.dtype or not q.device == k.device == v.device or not q.ndim == k.ndim == v.ndim == 3:
        return False
    return q.shape[2] == k.shape[2] and k.shape[:2] == v.shape[:2] and k.shape[1] > 0 and q.shape[1] % k.shape[1] == 0


def rotation_fits(x: Tensor, cosines: Tensor, sines: Tensor) -> bool:
    """Return whether kernels rotate x (tokens, heads, width) by these angles, (tokens, rotated / 2) each."""
    half = cosines.shape[-1]
    if x.ndim != 3 or x.stride(-1) != 1 or 2 * half > x.shape[2] or not x.numel():
        return False
    return plain(cosines, x, torch.float32, len(x), half) and plain(sines, x, torch.float32, len(x), half)


def _end(runs: SequenceLayout) -> int:
    """One more than the last row; -1 where a text begins before the first."""
    ends = (begin + length for begin, length in zip(runs.begins, runs.lengths, strict=True))
    return -1 if min(runs.begins, default=0) < 0 else max(ends, default=0)
