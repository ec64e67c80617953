"""Attention in C++, for decode steps of any precision and for prefill in bfloat16; None where it does not fit."""

from __future__ import annotations

from ctypes import addressof, byref
from typing import Any

import torch
from torch import Tensor

from ..layout import heads_fit, within
from ..ragged import AttentionMask, SequenceLayout
from . import native


def decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attention_mask: AttentionMask,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor | None:
    """Return attention of one query of each sequence, or None.

    Args:
        q: (sequences, heads, width). k, v: (rows, key heads, width). sinks: (heads,), see `backend.attention`.
    """
    width, value_width = q.shape[2], v.shape[2]
    # a decode step: each sequence has one query, and a key at least
    one = (
        attention_mask.queries.longest == 1
        and len(attention_mask.queries) == q.shape[0]
        and 0 not in attention_mask.keys.lengths
    )
    # a vector of the kernels has 16 numbers
    if not one or width % 16 or value_width % 16 or not _fit(q, k, v, attention_mask):
        return None
    if sinks is not None and sinks.requires_grad and torch.is_grad_enabled():
        return None
    # (sequences,) each, made once for all layers of a pass
    begins, lengths = attention_mask.cached("decode", lambda: spans(attention_mask.keys, attention_mask.window))
    # (sequences, heads, value width)
    out = torch.empty(q.shape[0], q.shape[1], value_width, dtype=q.dtype)
    wide = None if sinks is None else sinks.detach().float().contiguous()  # (heads,)
    arguments = native.DecodeAttention(
        q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), out=out.data_ptr(), begins=addressof(begins),
        lengths=addressof(lengths), sequences=q.shape[0], heads=q.shape[1], key_heads=k.shape[1], width=width,
        value_width=value_width, q_stride=q.stride(0), row_stride=k.stride(0), value_stride=v.stride(0), scale=scale,
        softcap=softcap or 0.0, sinks=None if wide is None else wide.data_ptr(), type=native.TYPES[q.dtype],
    )  # fmt: skip
    native.library().mh_decode_attention(byref(arguments), torch.get_num_threads())
    return out


def prefill(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, scale: float, softcap: float | None = None
) -> Tensor | None:
    """Return attention in bfloat16 of many queries of each sequence, or None.

    Args:
        q: (tokens, heads, width). k, v: (rows, key heads, width).
    """
    width, value_width = q.shape[2], v.shape[2]
    # channels are multiplied in pairs of bfloat16 numbers
    if q.dtype is not torch.bfloat16 or width % 2 or value_width % 16 or not _fit(q, k, v, attention_mask):
        return None
    places = attention_mask.cached("prefill", lambda: (*spans(attention_mask.queries), *spans(attention_mask.keys)))
    # (tokens, heads, value width)
    out = torch.empty(q.shape[0], q.shape[1], value_width, dtype=q.dtype)
    arguments = native.PrefillAttention(
        q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), out=out.data_ptr(), q_begins=addressof(places[0]),
        q_lengths=addressof(places[1]), begins=addressof(places[2]), lengths=addressof(places[3]),
        sequences=len(attention_mask.queries), heads=q.shape[1], key_heads=k.shape[1], width=width,
        value_width=value_width, q_stride=q.stride(0), row_stride=k.stride(0), value_stride=v.stride(0),
        scale=scale, softcap=softcap or 0.0, window=attention_mask.window or 0, causal=int(attention_mask.causal),
    )  # fmt: skip
    native.library().mh_prefill_attention(byref(arguments), torch.get_num_threads())
    return out


def spans(runs: SequenceLayout, window: int | None = None) -> tuple[Any, Any]:
    """Return each sequence's first row and number of rows, as `native.numbers`.

    Args:
        window: only so many last rows of a sequence.
    """
    begins, lengths = runs.begins, runs.lengths
    if window is not None and runs.longest > window:
        begins = tuple(begin + max(0, length - window) for begin, length in zip(begins, lengths, strict=True))
        lengths = tuple(min(length, window) for length in lengths)
    return native.numbers(begins), native.numbers(lengths)


def _fit(q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask) -> bool:
    """Return whether the kernels read these: one precision, each head's numbers adjacent, heads without gaps."""
    if not (native.serves(q) and native.serves(k) and native.serves(v)) or not heads_fit(q, k, v):
        return False
    return within(attention_mask, len(q), len(k)) and all(x.stride()[1:] == (x.shape[2], 1) for x in (q, k, v))
