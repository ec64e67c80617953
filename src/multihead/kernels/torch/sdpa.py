"""Attention through torch's scaled_dot_product_attention: as one view, padded, or sequence by sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import Bias, backend
from ..ragged import AttentionMask, PagedLayout, SequenceLayout
from . import varlen
from .attention import attend
from .pad_rows import pad_rows, unique_rows
from .padding_cost import pads_equal_lengths, round_up_keys, split_batch


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attention_mask: AttentionMask,
    *,
    scale: float,
    bias: Bias | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return attention as `AttentionFunction` describes it, in torch's fastest way for these lengths."""
    queries, keys = attention_mask.queries, attention_mask.keys
    plain = bias is None and softcap is None and sinks is None and not dropout
    if plain and varlen.fits(q, k, v, attention_mask):
        return varlen.attention(q, k, v, attention_mask, scale)
    if isinstance(keys, PagedLayout):  # a copy of the keys without pages
        slots, packed = keys.slots(), SequenceLayout.packed(keys.lengths)  # slots: (rows,)
        own = AttentionMask(queries, packed, attention_mask.causal, attention_mask.window)
        return backend(q).attention(
            q, k[slots], v[slots], own, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks
        )
    if softcap is not None or sinks is not None:  # which torch's kernel does not know
        return attend(q, k, v, attention_mask, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks)
    if _trains_slowly(q, v):
        wide = attention(q.float(), k.float(), v.float(), attention_mask, scale=scale, bias=bias, dropout=dropout)
        return wide.to(v.dtype)
    stride = keys.stride
    # Sequences of one length are a batch already: (sequences, length, heads, width) is a view of the rows.
    if bias is None and queries.stride and stride and k.shape[0] >= stride * len(keys):
        if q.is_cpu and pads_equal_lengths(attention_mask, q.shape[1]):
            return _padded(q, k, v, attention_mask, scale, dropout)
        return _as_view(q, k, v, attention_mask, stride, scale, dropout)
    return _in_parts(q, k, v, attention_mask, scale, bias, dropout)


def _trains_slowly(q: Tensor, v: Tensor) -> bool:
    """Return whether gradients of half precision take longer than those of float32: on a CPU without AMX."""
    if not q.is_cpu or v.dtype == torch.float32 or not (torch.is_grad_enabled() and v.requires_grad):
        return False
    return q.dtype in (torch.bfloat16, torch.float16) and not torch.cpu._is_amx_tile_supported()


def _as_view(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, stride: int, scale: float, dropout: float
) -> Tensor:
    """Compute sequences of one length as a batch, without a copy; keys may have free rows after each sequence."""
    sequences, keys = len(attention_mask.queries), attention_mask.keys.lengths[0]

    def batch(x: Tensor, stride: int, rows: int) -> Tensor:
        """(rows, heads, width) to (sequences, heads, rows, width)."""
        # A view of (sequences, stride, heads, width), cut to `rows` of each sequence.
        return x[: sequences * stride].unflatten(0, (sequences, stride))[:, :rows].transpose(1, 2)

    # (sequences, heads, queries, width)
    queries = batch(q, attention_mask.queries.lengths[0], attention_mask.queries.lengths[0])
    # Torch's causal flag puts the first query at the first key, so it is right only where every key has a query.
    causal = attention_mask.causal and attention_mask.window is None and 1 < queries.shape[2] == keys
    mask = None if causal else attention_mask.dense(0, q.device)  # (queries, keys), the same for all sequences
    # (sequences, heads, queries, width)
    out = _sdpa(queries, batch(k, stride, keys), batch(v, stride, keys), mask, causal, scale, dropout)
    return out.transpose(1, 2).flatten(0, 1)  # (tokens, heads, width)


def _in_parts(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, scale: float, bias: Bias | None, dropout: float
) -> Tensor:
    """Pad some sequences together and give each of the others a call, whichever is faster."""
    trains = torch.is_grad_enabled() and v.requires_grad
    single, groups = attention_mask.cached(
        ("parts", q.shape[1], k.shape[1:], trains),
        lambda: split_batch(attention_mask, q.shape[1], k, bias is None, trains),
    )
    if not single and len(groups) == 1 and len(groups[0]) == len(attention_mask.queries):
        return _padded(q, k, v, attention_mask, scale, dropout)
    selected = [attention_mask.select(group) for group in groups]
    parts = [(part, _padded(q, k, v, part, scale, dropout)) for part in selected]
    each = list(_one_by_one(q, k, v, attention_mask, single, scale, bias, dropout))  # (queries, heads, width) each
    if len(q) and torch.is_grad_enabled() and (q.requires_grad or v.requires_grad):
        return _concatenate(attention_mask, single, each, parts)  # writing in place would copy for each sequence
    out = q.new_empty(*q.shape[:2], v.shape[-1])  # (tokens, heads, width)
    for sequence, rows in zip(single, each, strict=True):
        begin = attention_mask.queries.begins[sequence]
        out[begin : begin + len(rows)] = rows
    for part, rows in parts:
        out[_query_rows(part, q.device)] = rows
    return out


def _concatenate(
    attention_mask: AttentionMask,
    single: Sequence[int],
    each: Sequence[Tensor],
    parts: Sequence[tuple[AttentionMask, Tensor]],
) -> Tensor:
    """Return the results of single sequences and padded groups in the order of the tokens, with gradients."""
    out = torch.cat([*each, *(rows for _, rows in parts)])  # (tokens, heads, width), single sequences first
    if not parts:
        return out  # single sequences are in their order

    def order() -> Tensor:
        begins, lengths, device = attention_mask.queries.begins, attention_mask.queries.lengths, out.device
        # (queries,) each
        own = [torch.arange(begins[i], begins[i] + lengths[i], device=device) for i in single]
        # Where each token's row is among the results: the inverse of their order.
        return torch.cat([*own, *(_query_rows(part, device) for part, _ in parts)]).argsort()

    return unique_rows(out, attention_mask.cached(("order", out.device), order))


def _query_rows(part: AttentionMask, device: torch.device) -> Tensor:
    """Return the rows of the queries of some sequences, (their tokens,)."""
    rows, real = part.padded_queries(device)
    return part.cached(("query rows", device), lambda: rows[real])


def _one_by_one(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, sequences: Sequence[int], scale: float,
    bias: Bias | None, dropout: float,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield the result of each of some sequences, (queries, heads, width)."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, heads, rows, width)
    for i in sequences:
        begin, length = attention_mask.queries.begins[i], attention_mask.queries.lengths[i]
        first, count = attention_mask.keys.begins[i], attention_mask.keys.lengths[i]
        if not length or not count:  # without keys the result is zero, as in the reference
            yield q.new_zeros(length, q.shape[1], v.shape[-1])
            continue
        mask: Tensor | None = attention_mask.dense(i, q.device)  # (queries, keys)
        if bias is not None:
            added = bias(i).to(q.dtype)  # (heads or 1, queries or 1, keys)
            # Torch takes one mask: numbers that are added to the scores.
            mask = added if mask is None else torch.where(mask, added, torch.finfo(q.dtype).min)
        causal = bias is None and attention_mask.causal and attention_mask.window is None and length == count
        # (1, key heads, keys, width) each, views
        keys, values = k.narrow(2, first, count), v.narrow(2, first, count)
        # (1, heads, queries, width)
        out = _sdpa(q.narrow(2, begin, length), keys, values, None if causal else mask, causal, scale, dropout)
        yield out[0].transpose(0, 1)


def _padded(q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, scale: float, dropout: float) -> Tensor:
    """Compute sequences of unequal lengths as a padded batch, (their tokens, heads, width)."""
    query_rows, real = attention_mask.padded_queries(q.device)  # (sequences, longest query)
    width = attention_mask.keys.longest
    if q.is_cpu:
        width = round_up_keys(attention_mask.queries.longest, width)
    key_rows, mask = attention_mask.padded_keys(k.device, width), attention_mask.padded_mask(q.device, width)
    # (tokens,), index of each query in the flattened batch
    cells = attention_mask.cached(("query cells", q.device), lambda: real.flatten().nonzero()[:, 0])
    key_cells = attention_mask.cached(("key cells", k.device, width), lambda: _key_cells(attention_mask, key_rows))
    # (sequences, heads, longest query, width)
    queries = _batch(q, query_rows, _query_rows(attention_mask, q.device), cells)
    keys, values = (_batch(x, key_rows, *key_cells) for x in (k, v))  # (sequences, key heads, padded keys, width) each
    out = _sdpa(queries, keys, values, mask, False, scale, dropout)  # (sequences, heads, longest query, width)
    return unique_rows(out.transpose(1, 2).flatten(0, 1), cells)  # (tokens, heads, width)


def _key_cells(attention_mask: AttentionMask, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the keys' rows and their cells in a padded batch of rows (sequences, width)."""
    lengths = torch.tensor(attention_mask.keys.lengths, device=rows.device)[:, None]
    # (keys of all sequences,)
    cells = (torch.arange(rows.shape[1], device=rows.device) < lengths).flatten().nonzero()[:, 0]
    return rows.flatten().index_select(0, cells), cells


def _batch(x: Tensor, index: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
    """Return x (rows, heads, width) at index (sequences, length): (sequences, heads, length, width)."""
    return pad_rows(x, index.flatten(), rows, cells).unflatten(0, index.shape).transpose(1, 2)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, dropout: float) -> Tensor:
    """Return attention of (batch, heads, length, width) by torch's kernel; mask and causal exclude each other."""
    grouped = q.shape[1] != k.shape[1]  # queries share key heads
    eager = q.is_cpu and not torch.compiler.is_compiling()
    if eager and (dropout or (mask is None and _may_overflow(q, k, scale))):
        return _explicit(q, k, v, mask, causal, scale, dropout)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=grouped)


def _may_overflow(q: Tensor, k: Tensor, scale: float) -> bool:
    """Return whether scores may not be finite; without a mask, torch's kernel on a CPU hides that in finite states."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if tracing or q.dtype == torch.float64 or not (q.numel() and k.numel()):
        return False
    # A product of two vectors is at most the product of their norms; NaN also answers True.
    return not _norm_bound(q) * _norm_bound(k) * abs(scale) < torch.finfo(torch.float32).max


def _norm_bound(x: Tensor) -> float:
    """Return a bound of the norm of each vector in x (batch, heads, length, width), in one read of x."""
    numbers = x.detach().transpose(1, 2).reshape(-1)  # no copy where heads are adjacent
    numbers = numbers.float() if x.dtype == torch.float16 else numbers  # squares of float16 leave its range
    return math.sqrt(float(torch.dot(numbers, numbers)))


def _explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, p: float) -> Tensor:
    """Compute each step alone: with dropout, for which torch has no CPU kernel, and for scores that overflow."""
    groups = q.shape[1] // k.shape[1]
    # (batch, heads, keys, width) each
    k, v = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k, v))
    scores = (q * scale) @ k.transpose(-2, -1)  # (batch, heads, queries, keys)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None and mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    probabilities = scores.softmax(-1, dtype=torch.float32).to(q.dtype)  # (batch, heads, queries, keys)
    probabilities = backend(probabilities.detach()).dropout(probabilities, p) if p else probabilities
    return probabilities @ v  # (batch, heads, queries, width)
