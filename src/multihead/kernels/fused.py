"""Small steps between products, through the kernels where these serve; None where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, byref
from typing import Any

import torch
from torch import Tensor

from .cpu import native
from .layout import heads_fit, plain, rows_of, within
from .ragged import Runs, Sight
from .triton import launch as gpu

LONG = 256  # keys from which matrix units are left to torch's kernel, which has them; a guess, not measured


def normed(x: Tensor, weight: Tensor, eps: float, centre: float = 0.0) -> Tensor | None:
    """x (..., width) over its root mean square, times weight + centre."""
    if (weight.requires_grad and torch.is_grad_enabled()) or not x.numel():
        return None
    if not plain(weight, x, x.dtype, x.shape[-1]):
        return None
    if gpu.serves(x):
        return gpu.normed(x, weight, eps, centre)
    if not native.serves(x):
        return None
    library = native.library()
    assert library is not None
    width, flat = x.shape[-1], rows_of(x)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    said = native.Norm(
        x=flat.data_ptr(), weight=weight.data_ptr(), y=y.data_ptr(), rows=flat.shape[0], width=width,
        stride=flat.stride(0), kind=1, type=native.TYPES[x.dtype], eps=eps, centre=centre,
    )  # fmt: skip
    library.mh_norm(byref(said), torch.get_num_threads())
    return y


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor | None:
    """x (tokens, heads, width), its first channels turned by angles whose float32 cosines are (tokens, rotated / 2)."""
    half = cosines.shape[-1]
    if x.ndim != 3 or x.stride(-1) != 1 or 2 * half > x.shape[2] or not x.numel():
        return None
    if not all(plain(angles, x, torch.float32, len(x), half) for angles in (cosines, sines)):
        return None
    if gpu.serves(x):
        return gpu.turned(x, cosines, sines)
    if not native.serves(x):
        return None
    library = native.library()
    assert library is not None
    y = torch.empty(x.shape, dtype=x.dtype)
    said = native.Turn(
        x=x.data_ptr(), y=y.data_ptr(), cosines=cosines.data_ptr(), sines=sines.data_ptr(), tokens=x.shape[0],
        heads=x.shape[1], width=x.shape[2], rotated=2 * cosines.shape[1], stride=x.stride(0), head_stride=x.stride(1),
        type=native.TYPES[x.dtype],
    )  # fmt: skip
    library.mh_rotate(byref(said), torch.get_num_threads())
    return y


def decoded(q: Tensor, k: Tensor, v: Tensor, sight: Sight, scale: float) -> Tensor | None:
    """Attention of one query a text, q (texts, heads, width), over keys and values (rows, key heads, width)."""
    width, value_width = q.shape[2], v.shape[2]
    one = sight.queries.longest == 1 and len(sight.queries) == q.shape[0] and 0 not in sight.keys.lengths
    if not one or width % 16 or value_width % 16 or not _fit(q, k, v, sight):
        return None
    library = native.library()
    assert library is not None
    begins, lengths = sight.once("decoded", lambda: spans(sight.keys, sight.window))
    out = torch.empty(q.shape[0], q.shape[1], value_width, dtype=q.dtype)
    said = native.Decode(
        q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), out=out.data_ptr(), begins=addressof(begins),
        lengths=addressof(lengths), texts=q.shape[0], heads=q.shape[1], key_heads=k.shape[1], width=width,
        value_width=value_width, q_stride=q.stride(0), row_stride=k.stride(0), value_stride=v.stride(0), scale=scale,
        type=native.TYPES[q.dtype],
    )  # fmt: skip
    library.mh_decode(byref(said), torch.get_num_threads())
    return out


def attended(q: Tensor, k: Tensor, v: Tensor, sight: Sight, scale: float) -> Tensor | None:
    """Attention in bfloat16 of many queries a text, q (tokens, heads, width); keys and values as for `decoded`."""
    width, value_width = q.shape[2], v.shape[2]
    if not mixes(q, sight.keys) or width % 2 or value_width % 16 or not _fit(q, k, v, sight):
        return None
    library = native.library()
    assert library is not None
    places = sight.once("mixed", lambda: (*spans(sight.queries), *spans(sight.keys)))
    out = torch.empty(q.shape[0], q.shape[1], value_width, dtype=q.dtype)
    said = native.Mix(
        q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(), out=out.data_ptr(), q_begins=addressof(places[0]),
        q_lengths=addressof(places[1]), begins=addressof(places[2]), lengths=addressof(places[3]),
        texts=len(sight.queries), heads=q.shape[1], key_heads=k.shape[1], width=width, value_width=value_width,
        q_stride=q.stride(0), row_stride=k.stride(0), value_stride=v.stride(0), window=sight.window or 0, scale=scale,
        causal=int(sight.causal),
    )  # fmt: skip
    library.mh_mix(byref(said), torch.get_num_threads())
    return out


def highest(
    scores: Tensor, count: int, banned: Sequence[int] = (), normal: bool = False
) -> tuple[Tensor, Tensor] | None:
    """The `count` highest of each row of scores (rows, width), best first, and their columns: (rows, count) each.

    The first of a row's is not below infinity where one of its scores is not a number or infinite.

    Args:
        banned: columns that are left out; where too few are left, the rest is minus infinity.
        normal: log-probabilities instead of scores; what is banned counts in their sum.
    """
    if scores.is_cuda and scores.ndim == 2 and 0 < count <= scores.shape[1]:
        return _highest(scores, count, banned, normal)
    if not native.serves(scores) or scores.ndim != 2 or scores.stride(1) != 1 or not 0 < count <= scores.shape[1]:
        return None
    library = native.library()
    assert library is not None
    values = torch.empty(len(scores), count)
    places = torch.empty(len(scores), count, dtype=torch.long)
    bans = native.numbers(banned)
    said = native.Best(
        scores=scores.data_ptr(), banned=addressof(bans), values=values.data_ptr(), places=places.data_ptr(),
        rows=len(scores), width=scores.shape[1], stride=scores.stride(0), count=count, bans=len(banned),
        type=native.TYPES[scores.dtype], normal=int(normal),
    )  # fmt: skip
    library.mh_best(byref(said), torch.get_num_threads())
    return values, places


def _highest(scores: Tensor, count: int, banned: Sequence[int], normal: bool) -> tuple[Tensor, Tensor]:
    """`highest` in torch's operations."""
    wide = scores.float()
    whole = wide.logsumexp(-1, keepdim=True) if normal else 0.0
    if own := [token for token in banned if token < wide.shape[1]]:
        wide = wide.index_fill(1, torch.tensor(own, device=wide.device), -torch.inf)
    best = (x[:, None] for x in wide.max(-1)) if count == 1 else wide.topk(count, -1)
    values, places = best
    return values - whole, places


def mixes(x: Tensor, keys: Runs) -> bool:
    """Whether many queries a text are for these kernels: in x's precision, over so many keys."""
    return x.dtype is torch.bfloat16 and not (native.level() == "amx" and keys.longest > LONG)


def spans(runs: Runs, window: int | None = None) -> tuple[Any, Any]:
    """Where each text's rows begin, and how many they are, as `native.numbers`.

    Args:
        window: only so many last rows of a text.
    """
    begins, lengths = runs.begins, runs.lengths
    if window is not None and runs.longest > window:
        begins = tuple(begin + max(0, length - window) for begin, length in zip(begins, lengths, strict=True))
        lengths = tuple(min(length, window) for length in lengths)
    return native.numbers(begins), native.numbers(lengths)


def _fit(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> bool:
    """Whether the kernels read these: of one precision, each head's numbers side by side and heads without gaps."""
    if not (native.serves(q) and native.serves(k) and native.serves(v)) or not heads_fit(q, k, v):
        return False
    return within(sight, len(q), len(k)) and all(x.stride()[1:] == (x.shape[2], 1) for x in (q, k, v))
