"""Memory layout of tensors: what is checked before their addresses go to kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .ragged import AttentionMask, SequenceLayout


def plain(x: Tensor | None, like: Tensor, dtype: torch.dtype, *shape: int) -> bool:
    """Return whether a tensor is contiguous, on the device of `like`, of this dtype and shape; True for None.

    Subclasses of tensors are refused, since their numbers may be elsewhere.
    """
    if x is None:
        return True
    known = type(x) in (Tensor, nn.Parameter) and x.dtype is dtype and x.device == like.device
    return known and x.shape == shape and x.is_contiguous()


def rows_of(x: Tensor) -> Tensor:
    """Return x (..., width) as (rows, width) with contiguous rows; a copy where they are not."""
    flat = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


def lined(x: Tensor) -> Tensor:
    """Return x with a contiguous last dimension; a copy where it is not."""
    return x if x.stride(-1) == 1 else x.contiguous()


def within(attention_mask: AttentionMask, queries: int, keys: int) -> bool:
    """Return whether so many rows of queries and of keys hold all sequences of an `AttentionMask`."""
    last_query, last_key = attention_mask.cached(
        "ends", lambda: (_end(attention_mask.queries), _end(attention_mask.keys))
    )
    return 0 <= last_query <= queries and 0 <= last_key <= keys


def heads_fit(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether queries, keys and values (rows, heads, width) have one dtype and device, and matching shapes."""
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
    """Return one more than the last row; -1 where a sequence begins before the first."""
    ends = (begin + length for begin, length in zip(runs.begins, runs.lengths, strict=True))
    return -1 if min(runs.begins, default=0) < 0 else max(ends, default=0)
