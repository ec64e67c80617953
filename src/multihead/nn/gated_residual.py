"""Residual blocks with learned shares of what they add (Muse Spark, Meta, 2026)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .layer import Residual
from .weights import Float32Parameters


class GatedResidual(Float32Parameters, Residual):
    """Residual block that keeps the variance: x -> sqrt(1 - b^2) x + b out(step(before(x))), b a sigmoid a channel.

    Args:
        temperature: that the sigmoids' inputs are divided by. floor: least value under the root.
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, step: nn.Module, width: int, *, temperature: float, floor: float = 1e-3, **options: Any) -> None:
        super().__init__(step, **options)
        self.gate, self.temperature, self.floor = nn.Parameter(torch.empty(width)), temperature, floor

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to equal gates, 1 / 2."""
        parameter.zero_()

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width); `args` go to the step."""
        new = self.out(self.step(self.before(x), *args))  # (tokens, width)
        given = self.gate / self.temperature  # (width,)
        share = torch.sigmoid(given)
        # 1 - b is a sigmoid, too: the difference would lose digits.
        keep = (torch.sigmoid(-given) * (1.0 + share)).clamp(min=self.floor).sqrt()
        return (keep * x + share * new).to(x.dtype)

    @property
    def supports_selected_tokens(self) -> bool:
        return False


class ScaledInputRMSNorm(nn.Module):
    """RMSNorm of what a weight has scaled, so that the weight changes shares of channels alone.

    The weight is stored as its distance from 1.
    """

    centre = 1.0

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Norm (..., width) in float32."""
        scaled = (x.float() * (self.centre + self.weight).float()).to(x.dtype).float()
        return (scaled * torch.rsqrt(scaled.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)
