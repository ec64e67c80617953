"""Ways to compute attention over ragged runs. `attend` is the definition; every other must give what it gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import Bias, backend
from ..ragged import AttentionMask, PagedLayout, SequenceLayout
from . import varlen
from .grids import gathered, picked

# Microseconds, measured on a CPU: a call for one text; a padded grid's fixed part, and of each byte of its keys and
# values that is moved; of a head's query that meets a key; and of one that meets a key beyond the last whole `STEP`,
# which torch's kernel computes one by one. What is cheaper is a matter of lengths alone.
CALL, GRID, MOVED, MET, LEFT = 32.0, 120.0, 1 / 15_000, 1 / 2_400, 1 / 200
LEARNED_CALL, LEARNED_GRID = 200.0, 300.0  # with gradients and dropout, which are many small operations
STEP = 16
SHORT = 480  # keys from which those beyond the last whole step do not matter


def weights(
    q: Tensor,
    k: Tensor,
    attention_mask: AttentionMask,
    text: int,
    *,
    scale: float,
    bias: Bias | None,
    softcap: float | None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention probabilities of one text, (heads, queries, keys), softmax in float32."""
    groups = q.shape[1] // k.shape[1]
    rows = _rows(k, attention_mask.keys, text).repeat_interleave(groups, dim=1)
    scores = torch.einsum("qhd,khd->hqk", _rows(q, attention_mask.queries, text), rows) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias(text)
    mask = attention_mask.dense(text, q.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(scores.dtype)[:, None, None].expand(-1, scores.shape[1], 1)], -1)
    p = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return p if sinks is None else p[..., :-1]


def attend(
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
    seen: list[Tensor] | None = None,
) -> Tensor:
    """The definition (Vaswani et al., 2017, arXiv:1706.03762), text by text, in plain matrix products.

    Args:
        seen: gets each text's probabilities (heads, queries, keys).
    """
    groups = q.shape[1] // k.shape[1]
    mixed = []
    for text in range(len(attention_mask.queries)):
        p = weights(q, k, attention_mask, text, scale=scale, bias=bias, softcap=softcap, sinks=sinks)
        if seen is not None:
            seen.append(p)
        p = backend(p.detach()).dropout(p, dropout) if dropout else p
        values = _rows(v, attention_mask.keys, text).repeat_interleave(groups, dim=1)
        mixed.append(torch.einsum("hqk,khd->qhd", p, values))
    return torch.cat(mixed) if mixed else q.new_zeros(*q.shape[:2], v.shape[-1])


def sdpa(
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
    """Return the same through torch's fused kernels: on a view where the lengths allow it, else in parts or padded."""
    plain = bias is None and softcap is None and sinks is None and not dropout
    if plain and varlen.fits(q, k, v, attention_mask):
        return varlen.attention(q, k, v, attention_mask, scale)
    if isinstance(attention_mask.keys, PagedLayout):
        rows, own = (
            attention_mask.keys.slots(),
            AttentionMask(
                attention_mask.queries,
                SequenceLayout.packed(attention_mask.keys.lengths),
                attention_mask.causal,
                attention_mask.window,
            ),
        )
        k, v = k[rows], v[rows]
        return backend(q).attention(q, k, v, own, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks)
    if softcap is not None or sinks is not None:
        return attend(q, k, v, attention_mask, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks)
    if _learns_wide(q, v):
        wide = sdpa(q.float(), k.float(), v.float(), attention_mask, scale=scale, bias=bias, dropout=dropout)
        return wide.to(v.dtype)
    spacing = attention_mask.keys.stride
    if bias is None and attention_mask.queries.stride and spacing and k.shape[0] >= spacing * len(attention_mask.keys):
        if not (q.device.type == "cpu" and _better_padded(attention_mask, q.shape[1])):
            return _on_views(q, k, v, attention_mask, spacing, scale, dropout)
        return _on_grid(q, k, v, attention_mask, scale, dropout)
    learns = torch.is_grad_enabled() and v.requires_grad
    key = ("ways", q.shape[1], k.shape[1:], learns)
    alone, groups = attention_mask.cached(key, lambda: _ways(attention_mask, q.shape[1], k, bias is None, learns))
    if not alone and len(groups) == 1 and len(groups[0]) == len(attention_mask.queries):
        return _on_grid(q, k, v, attention_mask, scale, dropout)
    parts = [
        (attention_mask.select(group), _on_grid(q, k, v, attention_mask.select(group), scale, dropout))
        for group in groups
    ]
    each = list(_text_by_text(q, k, v, attention_mask, alone, scale, bias, dropout))
    if (
        len(q) and torch.is_grad_enabled() and (q.requires_grad or v.requires_grad)
    ):  # writing in place costs a copy a text then
        return _joined(attention_mask, alone, each, parts)
    mixed = q.new_empty(*q.shape[:2], v.shape[-1])
    for text, rows in zip(alone, each, strict=True):
        mixed[attention_mask.queries.begins[text] : attention_mask.queries.begins[text] + len(rows)] = rows
    for part, rows in parts:
        mixed[_places(part, q.device)] = rows
    return mixed


def _learns_wide(q: Tensor, v: Tensor) -> bool:
    """Whether gradients of half precision are slower to compute than those in float32: on a CPU without AMX."""
    if q.device.type != "cpu" or v.dtype == torch.float32 or not (torch.is_grad_enabled() and v.requires_grad):
        return False
    return q.dtype in (torch.bfloat16, torch.float16) and not torch.cpu._is_amx_tile_supported()


def _places(part: AttentionMask, device: torch.device) -> Tensor:
    """Rows of the queries of some texts, (their tokens,)."""
    rows, real = part.padded_queries(device)
    return part.cached(("places", device), lambda: rows[real])


def _joined(
    attention_mask: AttentionMask,
    alone: Sequence[int],
    each: Sequence[Tensor],
    parts: Sequence[tuple[AttentionMask, Tensor]],
) -> Tensor:
    """What a call for each text and grids gave, (tokens, heads, width), as one tensor that gradients go through."""
    mixed = torch.cat([*each, *(rows for _, rows in parts)])
    if not parts:
        return mixed  # texts in their order

    def order() -> Tensor:
        begins, lengths, device = attention_mask.queries.begins, attention_mask.queries.lengths, mixed.device
        own = [torch.arange(begins[text], begins[text] + lengths[text], device=device) for text in alone]
        return torch.cat([*own, *(_places(part, device) for part, _ in parts)]).argsort()

    return picked(mixed, attention_mask.cached(("order", mixed.device), order))


def _ways(
    attention_mask: AttentionMask, heads: int, k: Tensor, together: bool, learns: bool
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Texts that get a call each, and groups that are padded together: those with one new token, and the others."""
    call, fixed = (LEARNED_CALL, LEARNED_GRID) if learns else (CALL, GRID)
    size, lengths = 2 * k.shape[1] * k.shape[2] * k.element_size(), attention_mask.keys.lengths
    alone, groups = [text for text, length in enumerate(lengths) if not (together and length)], []
    rest = [text for text, length in enumerate(lengths) if together and length]
    for group in (
        [t for t in rest if attention_mask.queries.lengths[t] == 1],
        [t for t in rest if attention_mask.queries.lengths[t] != 1],
    ):
        group.sort(key=lambda text: (attention_mask.queries.lengths[text], lengths[text]))
        costs = [len(group) * call]
        queries = keys = 0
        own = 0.0  # what the same texts cost a call each, beside the calls
        for count, text in enumerate(group, 1):  # the first so many on a grid, a call for each of the others
            queries, keys = max(queries, attention_mask.queries.lengths[text]), max(keys, lengths[text])
            padded = stepped(queries, keys)
            grid = fixed + count * (padded * size * MOVED + _kernel(heads, queries, padded))
            own += _kernel(heads, attention_mask.queries.lengths[text], lengths[text])
            costs.append(grid - own + (len(group) - count) * call)
        cut = min(range(len(costs)), key=costs.__getitem__)
        alone += group[cut:]
        if cut:
            groups.append(tuple(sorted(group[:cut])))
    return tuple(sorted(alone)), groups


def _kernel(heads: int, queries: int, keys: int) -> float:
    """What torch's kernel takes for one text."""
    left = keys % STEP if queries > 1 and keys < SHORT else 0
    return heads * queries * (keys * MET + left * LEFT)


def _better_padded(attention_mask: AttentionMask, heads: int) -> bool:
    """Whether texts of one length are better padded to whole steps of keys."""
    queries, keys = attention_mask.queries.longest, attention_mask.keys.longest
    saved = _kernel(heads, queries, keys) - _kernel(heads, queries, stepped(queries, keys))
    return len(attention_mask.keys) * saved > GRID


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, dropout: float) -> Tensor:
    """(batch, heads, length, width) through torch's kernel; mask and causal exclude each other."""
    grouped = q.shape[1] != k.shape[1]
    plain = q.device.type == "cpu" and not torch.compiler.is_compiling()
    if plain and (dropout or (mask is None and _hides(q, k, scale))):
        return _dropped(q, k, v, mask, causal, scale, dropout)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=grouped)


def _hides(q: Tensor, k: Tensor, scale: float) -> bool:
    """Whether scores may be no finite numbers: torch's kernel on a CPU gives finite states for them without a mask."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if tracing or q.dtype == torch.float64 or not (q.numel() and k.numel()):
        return False
    return not _norm(q) * _norm(k) * abs(scale) < torch.finfo(torch.float32).max


def _norm(x: Tensor) -> float:
    """A bound of all vectors' norms in x (batch, heads, length, width): one read, at the memory's rate."""
    numbers = x.detach().transpose(1, 2).reshape(-1)  # no copy where heads lie side by side
    numbers = numbers.float() if x.dtype == torch.float16 else numbers  # squares of float16 leave its range
    return math.sqrt(float(torch.dot(numbers, numbers)))


def _dropped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, p: float) -> Tensor:
    """Likewise step by step: with dropout, for which torch has no kernel on a CPU, or for scores that are no number."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k, v))
    scores = (q * scale) @ k.transpose(-2, -1)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None and mask.dtype is torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    shares = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    return (backend(shares.detach()).dropout(shares, p) if p else shares) @ v


def _on_views(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, spacing: int, scale: float, dropout: float
) -> Tensor:
    """Texts of one length are a batch without moving anything; keys may have free places after each text."""
    texts, keys = len(attention_mask.queries), attention_mask.keys.lengths[0]

    def batch(x: Tensor, apart: int, rows: int) -> Tensor:
        return x[: texts * apart].unflatten(0, (texts, apart))[:, :rows].transpose(1, 2)

    queries = batch(q, attention_mask.queries.lengths[0], attention_mask.queries.lengths[0])
    causal = attention_mask.causal and attention_mask.window is None and 1 < queries.shape[2] == keys
    mask = None if causal else attention_mask.dense(0, q.device)
    mixed = _sdpa(queries, batch(k, spacing, keys), batch(v, spacing, keys), mask, causal, scale, dropout)
    return mixed.transpose(1, 2).flatten(0, 1)


def _text_by_text(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, texts: Sequence[int], scale: float,
    bias: Bias | None, dropout: float,
) -> Iterator[Tensor]:  # fmt: skip
    """A call for each of some texts: (queries, heads, width) each."""
    heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
    for text in texts:
        begin, length = attention_mask.queries.begins[text], attention_mask.queries.lengths[text]
        first, count = attention_mask.keys.begins[text], attention_mask.keys.lengths[text]
        if not length or not count:
            yield q.new_zeros(length, q.shape[1], v.shape[-1])
            continue
        mask: Tensor | None = attention_mask.dense(text, q.device)
        if bias is not None:
            added = bias(text).to(q.dtype)
            mask = added if mask is None else torch.where(mask, added, torch.finfo(q.dtype).min)
        one = heads_first[0].narrow(2, begin, length)
        keys, values = (x.narrow(2, first, count) for x in heads_first[1:])
        plain = bias is None and attention_mask.causal and attention_mask.window is None and length == count
        result = _sdpa(one, keys, values, None if plain else mask, plain, scale, dropout)
        yield result[0].transpose(0, 1)


def _on_grid(q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, scale: float, dropout: float) -> Tensor:
    """Texts of unlike lengths, (their tokens, heads, width): only attention is padded."""
    query_rows, real = attention_mask.padded_queries(q.device)
    width = attention_mask.keys.longest
    if q.device.type == "cpu":
        width = stepped(attention_mask.queries.longest, width)
    key_rows, mask = attention_mask.padded_keys(k.device, width), attention_mask.padded_mask(q.device, width)
    places = attention_mask.cached(("real", q.device), lambda: real.flatten().nonzero()[:, 0])
    own = attention_mask.cached(("key cells", k.device, width), lambda: _cells(attention_mask, key_rows))
    queries = _gathered(q, query_rows, _places(attention_mask, q.device), places)
    keys, values = (_gathered(x, key_rows, *own) for x in (k, v))
    mixed = _sdpa(queries, keys, values, mask, False, scale, dropout)
    return picked(mixed.transpose(1, 2).flatten(0, 1), places)


def _cells(attention_mask: AttentionMask, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which keys stand at which cells of a grid of rows (texts, width)."""
    lengths = torch.tensor(attention_mask.keys.lengths, device=rows.device)[:, None]
    cells = (torch.arange(rows.shape[1], device=rows.device) < lengths).flatten().nonzero()[:, 0]
    return rows.flatten().index_select(0, cells), cells


def stepped(queries: int, keys: int) -> int:
    """Keys of a grid: whole steps, where a few keys more cost less than those left over would."""
    more = -keys % STEP
    worse = queries == 1 or keys >= SHORT or more * MET >= (keys % STEP) * LEFT
    return keys if worse else keys + more


def _gathered(x: Tensor, index: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
    """(tokens, heads, width) at rows (texts, length): (texts, heads, length, width); see `grids.Gathered`."""
    return gathered(x, index.flatten(), rows, cells).unflatten(0, index.shape).transpose(1, 2)


def _rows(x: Tensor, runs: SequenceLayout, text: int) -> Tensor:
    return x.narrow(0, runs.begins[text], runs.lengths[text])
