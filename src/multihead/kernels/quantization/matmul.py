"""Products with a quantized weight that is dequantized in the forward and in the backward pass: for training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import QuantizationFormat
from .coded_tensor import QuantizedMatrix


def dequantized_linear(
    x: Tensor, format: QuantizationFormat, matrix: QuantizedMatrix, shape: tuple[int, int], bias: Tensor | None = None
) -> Tensor:
    """Compute x @ weight.T + bias, (..., inputs) to (..., outputs), of a weight of this shape.

    Gradients go to x and bias alone. Autocast decides the precision.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    out = _DequantizedLinear.apply(x, format, shape, *matrix)
    return out if bias is None else out + bias.to(out.dtype)


class _DequantizedLinear(torch.autograd.Function):
    """Dequantizes the weight in each direction again, so that the graph holds codes alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, format: QuantizationFormat, shape: tuple[int, int], *matrix: Tensor) -> Tensor:
        ctx.save_for_backward(*matrix)
        ctx.format, ctx.shape = format, shape
        return F.linear(x, format.dequantize(QuantizedMatrix(*matrix), shape, x.dtype))  # (..., outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (grad,), matrix = grads, QuantizedMatrix(*ctx.saved_tensors)
        # (..., outputs) to (..., inputs)
        return grad @ ctx.format.dequantize(matrix, ctx.shape, grad.dtype), None, None, None, None, None
