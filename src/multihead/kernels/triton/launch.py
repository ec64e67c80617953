"""Starts the Triton programs. Without Triton, or without a C compiler for its launchers, torch does their work."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidInput
from ..layout import heads_fit, lined, rows_of, within
from ..ragged import BLOCK, AttentionMask, PagedLayout

WIDEST = 256  # channels of a head, at most
TYPES = (torch.float32, torch.bfloat16, torch.float16)
SPLITS = 64  # programs that share one sequence's keys, at most


def serves(x: Tensor) -> bool:
    """Return whether the programs compute with a tensor: on a GPU, of a dtype in TYPES, without a gradient."""
    if not x.is_cuda or x.dtype not in TYPES or torch.compiler.is_compiling() or programs() is None:
        return False
    return not (x.requires_grad and torch.is_grad_enabled()) and type(x) is Tensor


def programs() -> Any | None:
    """Return the module of the programs; None where they cannot run here."""
    return _opened()[0]


def why_not() -> str:
    """Return why they cannot run; empty where they can."""
    return _opened()[1]


@cache
def _opened() -> tuple[Any | None, str]:
    if os.environ.get("MULTIHEAD_TRITON") == "0":
        return None, "MULTIHEAD_TRITON=0 turns them off"
    if not torch.cuda.is_available():
        return None, "torch sees no GPU"
    if torch.cuda.get_device_capability() < (8, 0):
        return None, f"{torch.cuda.get_device_name()} is older than those that the kernels are for"
    try:
        from . import programs as gpu_programs

        probe = torch.ones(1, 16, device="cuda")
        gpu_programs.rms_norm[(1,)](probe, probe[0], torch.empty_like(probe), 16, 16, 0.0, 0.0, SIZE=16)
    except Exception as error:  # Triton is missing, or cannot compile: many kinds of errors
        return None, f"Triton cannot be used: {type(error).__name__}: {error}"
    return gpu_programs, ""


def rms_norm(x: Tensor, weight: Tensor, eps: float, centre: float) -> Tensor:
    """Return x (..., width) over its root mean square, times weight + centre."""
    flat = rows_of(x)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    if len(flat):
        size = power(flat.shape[1])
        _launch(flat, "rms_norm", (len(flat),),
            flat, weight.contiguous(), y, flat.shape[1], flat.stride(0), eps, centre, SIZE=size,
            num_warps=8 if size > 2048 else 4,
        )  # fmt: skip
    return y


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return x (tokens, heads, width), its first channels rotated by float32 angles (tokens, rotated / 2)."""
    x, cosines, sines = lined(x), cosines.contiguous(), sines.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    width, half = x.shape[2], cosines.shape[1]
    if len(x):
        _launch(x, "rotate", (len(x),),
            x, y, cosines, sines, x.shape[1], x.stride(0), x.stride(1), WIDTH=width, HALF=half,
            HEADS=power(x.shape[1]), PAIRS=power(half), REST=power(max(width - 2 * half, 1)),
        )  # fmt: skip
    return y


def activation_gate(x: Tensor, act: int) -> Tensor:
    """Return act(first half) * second half of x (..., 2 * inner); `act`: number in `kernels.activations`."""
    flat, inner = rows_of(x), x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], inner)
    if y.numel():
        size = min(power(inner), 1024)
        grid = len(flat), -(-inner // size)
        _launch(x, "activation_gate", grid, flat, y, inner, flat.stride(0), ACT=act, SIZE=size)
    return y


def rotate_and_write(
    q: Tensor, k: Tensor, v: Tensor, angles: tuple[Tensor, Tensor], k_store: Tensor, v_store: Tensor, rows: Tensor
) -> Tensor:
    """Rotate queries and keys as `rotate` does, write keys and values as `write_rows` does, return the queries."""
    q, k, v, angles = lined(q), lined(k), lined(v), (angles[0].contiguous(), angles[1].contiguous())
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    width, values, half = q.shape[2], v.shape[2], angles[0].shape[1]
    if len(q):
        _launch(q, "rotate_and_write", (len(q), q.shape[1] + 2 * k.shape[1]),
            q, k, v, out, k_store, v_store, rows, *angles, q.shape[1], k.shape[1], *q.stride()[:2], *k.stride()[:2],
            *v.stride()[:2], WIDTH=width, VALUES=values, HALF=half, PAIRS=power(half),
            REST=power(max(width - 2 * half, 1)), DV=power(values), num_warps=1,
        )  # fmt: skip
    return out


def add_norm(
    x: Tensor, y: Tensor, kind: int, weight: Tensor, bias: Tensor | None, eps: float, centre: float, keep: bool
) -> tuple[Tensor, Tensor]:
    """Return x + y, (rows, width) each, and its norm: 1 root mean square, 2 layer norm. The sum only where `keep`."""
    normed = torch.empty_like(x, memory_format=torch.contiguous_format)
    total = torch.empty_like(normed) if keep else normed
    if len(x):
        size = power(x.shape[1])
        _launch(x, "add_norm", (len(x),),
            x.contiguous(), y.contiguous(), total, normed, weight.contiguous(),
            (weight if bias is None else bias).contiguous(), x.shape[1], eps, centre, KIND=kind, BIAS=bias is not None,
            KEEP_SUM=keep, SIZE=size, num_warps=8 if size > 2048 else 4,
        )  # fmt: skip
    return total, normed


def write_rows(k: Tensor, v: Tensor, k_store: Tensor, v_store: Tensor, rows: Tensor) -> None:
    """Write keys and values (tokens, heads, width) to cache rows (rows, heads, width); not to rows below 0."""
    if len(k):
        k, v = (x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous() for x in (k, v))
        k_width, v_width = k_store[0].numel(), v_store[0].numel()
        _launch(k, "write_rows", (len(k),),
            k, v, k_store, v_store, rows, k.stride(0), v.stride(0), k_width, v_width, K_SIZE=power(k_width),
            V_SIZE=power(v_width),
        )  # fmt: skip


def advance_step(inputs: Tensor, tokens: Tensor, windows: int, blocks: int) -> None:
    """Make tokens (sequences,) the next inputs of a captured decode step, in place."""
    _launch(inputs, "advance_step", (len(inputs),),
        inputs, tokens, inputs.stride(0), windows, blocks, BLOCK=BLOCK, num_warps=1,
    )  # fmt: skip


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether `attention` computes with queries, keys and values (rows, heads, width)."""
    if not (serves(q) and serves(k) and serves(v)) or not heads_fit(q, k, v):
        return False
    return max(q.shape[2], v.shape[2]) <= WIDEST and q.stride(2) == k.stride(2) == v.stride(2) == 1


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attention_mask: AttentionMask,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Return attention as `AttentionFunction` describes it, without bias and dropout, of tensors that `fits` accepts.

    Raises:
        InvalidInput: sequences reach beyond the rows of queries or keys.
    """
    if not isinstance(attention_mask.keys, PagedLayout) and not within(attention_mask, len(q), len(k)):
        raise InvalidInput(f"Texts reach beyond {len(q)} rows of queries or {len(k)} of keys.")
    q, k, v, sinks = lined(q), lined(k), lined(v), None if sinks is None else sinks.contiguous()
    out = q.new_empty(*q.shape[:2], v.shape[2])
    if not q.numel():
        return out
    one = attention_mask.queries.longest == 1 and len(attention_mask.queries) == len(q)
    pages = attention_mask.keys if isinstance(attention_mask.keys, PagedLayout) else None
    if one and pages is not None:  # a captured decode step knows no more: lengths are on the device alone
        spans, counts, begins = pages.block_table, pages.token_counts, pages.token_counts
    else:
        spans = attention_mask.cached(("spans", q.device), lambda: _spans(attention_mask, q.device))
        counts, begins = spans[3], spans[2]
    width, values = q.shape[2], v.shape[2]
    exact = q.dtype == torch.float32
    options: dict[str, Any] = {
        "GROUP": q.shape[1] // k.shape[1], "WIDTH": width, "VALUES": values, "D": max(power(width), 16),
        "DV": max(power(values), 16), "WINDOW": attention_mask.window is not None, "PAGED": pages is not None,
        "SOFTCAP": softcap is not None, "SINKS": sinks is not None, "BLOCK": BLOCK,
        "PRECISION": "ieee" if exact else "tf32",
    }  # fmt: skip
    options["num_stages"] = _stages(max(options["D"], options["DV"]), exact)
    strides = *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], 0 if pages is None else pages.block_table.stride(0)
    numbers = scale, softcap or 0.0, attention_mask.window or 0
    table = spans if pages is None else pages.block_table
    sinks = table if sinks is None else sinks
    if one:
        _decode(q, k, v, out, counts, begins, table, sinks, strides, numbers, options)
    else:
        shape = _tile(attention_mask.queries.longest, max(options["D"], options["DV"]), exact)
        tiles = -(-attention_mask.queries.longest // shape["QUERIES"])
        _launch(q, "attention_prefill", (tiles * len(attention_mask.queries) * q.shape[1],),
            q, k, v, out, spans, table, sinks, len(attention_mask.queries), q.shape[1], tiles, *strides, *numbers,
            CAUSAL=attention_mask.causal, **shape, **options,
        )  # fmt: skip
    return out


def _decode(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, counts: Tensor, begins: Tensor, table: Tensor, sinks: Tensor,
    strides: tuple[int, ...], numbers: tuple[float, float, int], options: dict[str, Any],
) -> None:  # fmt: skip
    """Compute one query of each sequence: keys are split so that there are enough programs to fill the GPU."""
    sequences, heads, key_heads = q.shape[0], q.shape[1], k.shape[1]
    keys = _keys(options["D"], q.dtype == torch.float32)
    splits = min(max(2 * processors(q.device) // (sequences * key_heads), 1), SPLITS)
    partial = out if splits == 1 else q.new_empty(sequences, heads, splits, options["DV"] + 2, dtype=torch.float32)
    _launch(q, "attention_decode_split", (sequences, key_heads, splits),
        q, k, v, out, partial, counts, begins, table, sinks, *strides, *numbers, splits, KEYS=keys, SINGLE=splits == 1,
        ROWS=max(power(options["GROUP"]), 16), **options,
    )  # fmt: skip
    if splits > 1:
        _launch(q, "attention_combine", (sequences, heads),
            partial, out, counts, sinks, heads, numbers[2], splits, VALUES=options["VALUES"], DV=options["DV"],
            SPLITS=power(splits), KEYS=keys, WINDOW=options["WINDOW"], SINKS=options["SINKS"], num_warps=2,
        )  # fmt: skip


def _tile(longest: int, width: int, exact: bool) -> dict[str, int]:
    """Return how many queries and keys a prefill program has in its tile."""
    most = 32 if width > 128 else 64
    return {"QUERIES": min(max(power(longest), 16), most), "KEYS": _keys(width, exact), "num_warps": 4}


def _keys(width: int, exact: bool) -> int:
    return 32 if exact or width > 128 else 64


def _stages(width: int, exact: bool) -> int:
    """Return the tiles of keys in flight: as many as fit the shared memory of small GPUs, 99 KiB."""
    return 3 if not exact else 2 if width <= 128 else 1


def _spans(attention_mask: AttentionMask, device: torch.device) -> Tensor:
    """Return (4, sequences), int32: first row and number of queries, first row and number of keys."""
    queries, keys = attention_mask.queries, attention_mask.keys
    if isinstance(keys, PagedLayout):
        own = torch.tensor([queries.begins, queries.lengths, queries.begins], dtype=torch.int32, device=device)
        return torch.cat([own, keys.token_counts[None]])
    return torch.tensor([queries.begins, queries.lengths, keys.begins, keys.lengths], dtype=torch.int32, device=device)


@cache
def processors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def power(count: int) -> int:
    """Return the least power of two that is not below `count`."""
    return 1 << max(count - 1, 0).bit_length()


def _launch(x: Tensor, name: str, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Start a program on the GPU that x is on, which need not be the current one."""
    found = programs()
    assert found is not None
    if not x.is_cuda or x.get_device() == torch.cuda.current_device():
        getattr(found, name)[grid](*args, **options)
    else:
        with torch.cuda.device(x.device):
            getattr(found, name)[grid](*args, **options)
