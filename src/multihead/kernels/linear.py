"""A linear layer, in the way that is fastest for its shape. All ways give the same numbers up to rounding.

Measured on a CPU with AMX, weights in main memory: for a few rows the libraries below torch prepare the weight anew in
every call, which costs more than the product; with the weight on the left they prepare the rows instead.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = range(2, 17)  # rows for which a weight of half precision is better on the left
MIDDLE = range(12, 33)  # rows for which a wide weight in float32 is
WIDE = 1024
SOME = range(3, 16)  # rows for which many outputs in float32 are better made in blocks
MANY, BLOCK = 1024, 128


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: (rows, inputs) to (rows, outputs); the weight is (outputs, inputs)."""
    if x.ndim != 2 or x.shape[0] > MIDDLE.stop or x.device.type != "cpu" or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
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


def _in_blocks(x: Tensor, weight: Tensor) -> Tensor:
    whole = weight.shape[0] // BLOCK * BLOCK
    blocks = weight[:whole].view(-1, BLOCK, weight.shape[1])
    out = torch.matmul(x, blocks.transpose(1, 2)).transpose(0, 1).reshape(len(x), whole)
    return out if whole == len(weight) else torch.cat([out, F.linear(x, weight[whole:])], 1)
