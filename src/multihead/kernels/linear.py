"""A linear layer, in the way that is fastest for its shape. All ways give the same numbers up to rounding.

For few rows the kernels read the weight in the order in which it lies (native/unpacked.h), at the memory's rate, where
the libraries below torch read it with one thread or lay it anew in every call, which costs more than the product.
Where there are no kernels, the rows are prepared instead, with the weight on the left (measured on a CPU with AMX,
weights in main memory).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu import native
from .layout import plain

ROWS = {  # of float32 and of bfloat16, up to which the kernels are faster, by their level
    "plain": (1, 1), "avx2": (1, 1), "avx512": (64, 4), "avx512_vnni": (64, 4), "avx512_bf16": (64, 32),
    "amx": (32, 4), "amx_emulated": (32, 4),
}  # fmt: skip
COLUMNS = 8  # rows up to which they are where inputs, not outputs, have the weight's rows
FEW = range(2, 17)  # without kernels: rows for which a weight of half precision is better on the left
MIDDLE = range(12, 33)  # rows for which a wide weight in float32 is
WIDE = 1024
SOME = range(3, 16)  # rows for which many outputs in float32 are better made in blocks
MANY, BLOCK = 1024, 128
MOST = 64  # rows of all these


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: (rows, inputs) to (rows, outputs); the weight is (outputs, inputs)."""
    if x.ndim != 2 or x.shape[0] > MOST or x.device.type != "cpu" or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    if weight.ndim != 2 or weight.dtype is not x.dtype or weight.shape[1] != x.shape[1]:
        return F.linear(x, weight, bias)  # which says what is wrong
    if bias is not None and (bias.dtype is not x.dtype or bias.shape != weight.shape[:1]):
        return F.linear(x, weight, bias)
    kind = lies(weight)
    if kind is not None and _reads(x, weight, bias, kind):
        return _as_it_lies(x, weight, bias, kind)
    rows, half = x.shape[0], weight.dtype in (torch.bfloat16, torch.float16)
    if half and rows == 1:
        out = torch.mv(weight, x[0])[None]
    elif (half and rows in FEW) or (not half and rows in MIDDLE and x.shape[1] >= WIDE):
        out = (weight @ x.t()).t().contiguous()
    elif not half and rows in SOME and weight.shape[0] >= MANY:
        out = _in_blocks(x, weight)
    else:
        return F.linear(x, weight, bias)
    return out if bias is None else out + bias


def lies(weight: Tensor) -> int | None:
    """The kind of native.h of a weight (outputs, inputs) as it is; None where the kernels cannot read it."""
    if type(weight) not in (nn.Parameter, Tensor) or weight.dtype not in native.TYPES or weight.ndim != 2:
        return None
    first, second = weight.stride()
    if second == 1 and first >= weight.shape[1]:
        return 4 + native.TYPES[weight.dtype]
    return 6 + native.TYPES[weight.dtype] if first == 1 and second >= weight.shape[0] else None


def apart(weight: Tensor) -> int:
    """Numbers from one row that lies in memory to the next."""
    return max(weight.stride())


def most_rows(dtype: torch.dtype, kind: int = 4) -> int:
    """Rows up to which the kernels multiply with a weight as it lies faster than torch does; 0 without kernels."""
    level = native.level()
    rows = 0 if level is None else ROWS[level][native.TYPES[dtype]]
    return rows if kind < 6 else min(rows, COLUMNS)


def _reads(x: Tensor, weight: Tensor, bias: Tensor | None, kind: int) -> bool:
    """Whether the kernels compute this product, and faster."""
    if not native.serves(x) or not 0 < x.shape[0] <= most_rows(x.dtype, kind) or torch.is_autocast_enabled("cpu"):
        return False
    return weight.is_cpu and x.stride(1) == 1 and plain(bias, x, x.dtype, weight.shape[0])


def _as_it_lies(x: Tensor, weight: Tensor, bias: Tensor | None, kind: int) -> Tensor:
    (rows, inputs), outputs, library = x.shape, weight.shape[0], native.library()
    assert library is not None
    y = torch.empty(rows, outputs, dtype=x.dtype)
    library.mh_linear(
        x.data_ptr(), rows, x.stride(0), weight.data_ptr(), kind, apart(weight), inputs, outputs,
        None if bias is None else bias.data_ptr(), y.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return y


def _in_blocks(x: Tensor, weight: Tensor) -> Tensor:
    whole = weight.shape[0] // BLOCK * BLOCK
    blocks = weight[:whole].view(-1, BLOCK, weight.shape[1])
    out = torch.matmul(x, blocks.transpose(1, 2)).transpose(0, 1).reshape(len(x), whole)
    return out if whole == len(weight) else torch.cat([out, F.linear(x, weight[whole:])], 1)
