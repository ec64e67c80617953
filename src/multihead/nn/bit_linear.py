"""Linear layers of one-bit models (Ma et al., 2024, arXiv:2402.17764): ternary weights, inputs of 8 bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.ops import linear

LEAST = 1e-5  # of a scale's divisor


def straight_through(exact: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`, with the gradient of `exact`."""
    return rounded.detach() + (exact - exact.detach()) if exact.requires_grad else rounded


def rounded_rows(x: Tensor) -> Tensor:
    """Round each row of x (..., width) to 8 bits of its largest magnitude."""
    wide = x.float()
    scale = 127 / wide.abs().amax(-1, keepdim=True).clamp(min=LEAST)  # (..., 1)
    return straight_through(x, ((wide * scale).round().clamp(-128, 127) / scale).to(x.dtype))


def ternary(weight: Tensor) -> Tensor:
    """Round a weight to -1, 0 and 1, times the mean of its magnitudes."""
    wide = weight.float()
    scale = 1.0 / wide.abs().mean().clamp(min=LEAST)
    return straight_through(weight, ((wide * scale).round().clamp(-1, 1) / scale).to(weight.dtype))


class BitLinear(nn.Module):
    """Linear layer that rounds its input to 8 bits.

    Args:
        learns: the weight is of any numbers, and is rounded in each pass. Else it is ternary already, as stored, and
            what it gives is multiplied by a number of the checkpoint.
    """

    def __init__(self, width: int, out: int, *, bias: bool = False, learns: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, width), requires_grad=learns)
        self.bias = nn.Parameter(torch.empty(out)) if bias else None
        self.weight_scale = None if learns else nn.Parameter(torch.empty(1), requires_grad=False)
        self._rounded: tuple[tuple[int, int, torch.device], Tensor] | None = None  # of which weight, and its rounding

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        if name == "weight":
            parameter.normal_(0.0, std)
        else:
            parameter.fill_(float(name == "weight_scale"))

    def forward(self, x: Tensor) -> Tensor:
        y = linear(rounded_rows(x), self._matrix(), self.bias)  # (..., width) to (..., out)
        return y if self.weight_scale is None else y * self.weight_scale

    def _matrix(self) -> Tensor:
        """Return the ternary weight (out, width), rounded once for each state of a weight that does not learn."""
        weight = self.weight
        if self.weight_scale is not None:
            return weight
        if torch.is_grad_enabled() and weight.requires_grad:
            return ternary(weight)
        state = weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.device
        if self._rounded is None or self._rounded[0] != state:
            self._rounded = state, ternary(weight.detach())
        return self._rounded[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rounded": None}  # a copy computes its own
