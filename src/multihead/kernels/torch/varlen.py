"""Attention with gradients through torch's varying-length FlashAttention, on a GPU in half precision."""

from __future__ import annotations

from inspect import signature

import torch
from torch import Tensor

from ..ragged import AttentionMask, PagedLayout, SequenceLayout

WIDEST = 256  # channels of a head, at most


def fits(q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask) -> bool:
    """Return whether `attention` computes with queries, keys and values (rows, heads, width) of packed sequences."""
    if not q.is_cuda or not q.dtype == k.dtype == v.dtype or q.dtype not in (torch.bfloat16, torch.float16):
        return False
    if isinstance(attention_mask.keys, PagedLayout) or not q.shape[2] == v.shape[2] <= WIDEST or q.shape[2] % 8:
        return False
    from torch.nn.attention.varlen import varlen_attn

    if "window_size" not in signature(varlen_attn).parameters:  # before torch 2.11
        return False
    whole = all(runs == SequenceLayout.packed(runs.lengths) for runs in (attention_mask.queries, attention_mask.keys))
    return whole and torch.cuda.get_device_capability(q.device) >= (8, 0)


def attention(q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, scale: float) -> Tensor:
    """Return attention by torch's varying-length FlashAttention, which has gradients (arXiv:2307.08691)."""
    from torch.nn.attention.varlen import varlen_attn

    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)  # (rows, heads, width) each
    # (sequences + 1,) of queries and of keys
    begins = attention_mask.cached(("begins", q.device), lambda: _begins(attention_mask, q.device))
    longest = attention_mask.queries.longest, attention_mask.keys.longest
    # Tokens before a query that it sees, without itself; -1 for all.
    back = -1 if attention_mask.window is None else attention_mask.window - 1
    return varlen_attn(
        q, k, v, *begins, *longest, scale=scale, window_size=(back, 0 if attention_mask.causal else back)
    )  # type: ignore[return-value]


def _begins(attention_mask: AttentionMask, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cu_seqlens of queries and of keys: (sequences + 1,) each, int32."""
    first, second = (
        torch.tensor([*runs.begins, sum(runs.lengths)], dtype=torch.int32).to(device)
        for runs in (attention_mask.queries, attention_mask.keys)
    )
    return first, second
