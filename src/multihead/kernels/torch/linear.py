"""A linear layer of few rows on a CPU without the C++ kernels, in the fastest of torch's ways.

The libraries below torch read a weight of half precision with one thread, or lay it out again in every call, which
costs more than the product. Measured on a CPU with AMX, weights in main memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW_ROWS = 64  # rows from which no other way beats F.linear
LEFT_HALF = range(2, 17)  # rows for which a weight of half precision is faster on the left
LEFT_WIDE, WIDE = range(12, 33), 1024  # rows for which a float32 weight with so many inputs is
BLOCKED, MANY, BLOCK = range(3, 16), 1024, 128  # rows for which many float32 outputs are faster made in blocks


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias, without gradients: (rows, inputs) to (rows, outputs)."""
    if weight.ndim != 2 or weight.dtype is not x.dtype or weight.shape[1] != x.shape[1]:
        return F.linear(x, weight, bias)  # which says what is wrong
    if bias is not None and (bias.dtype is not x.dtype or bias.shape != weight.shape[:1]):
        return F.linear(x, weight, bias)
    rows, half = x.shape[0], weight.dtype in (torch.bfloat16, torch.float16)
    if half and rows == 1:
        out = torch.mv(weight, x[0])[None]  # (1, outputs)
    elif (half and rows in LEFT_HALF) or (not half and rows in LEFT_WIDE and x.shape[1] >= WIDE):
        # (outputs, rows) to (rows, outputs): on the left, the weight keeps its layout
        out = (weight @ x.t()).t().contiguous()
    elif not half and rows in BLOCKED and weight.shape[0] >= MANY:
        out = _in_blocks(x, weight)
    else:
        return F.linear(x, weight, bias)
    return out if bias is None else out + bias


def _in_blocks(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight.T, BLOCK outputs at a time."""
    whole = weight.shape[0] // BLOCK * BLOCK
    blocks = weight[:whole].view(-1, BLOCK, weight.shape[1])  # (blocks, BLOCK, inputs)
    out = torch.matmul(x, blocks.transpose(1, 2)).transpose(0, 1).reshape(len(x), whole)  # (rows, whole)
    return out if whole == len(weight) else torch.cat([out, F.linear(x, weight[whole:])], 1)
