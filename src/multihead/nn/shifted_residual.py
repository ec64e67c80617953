"""Residual blocks that shift and scale both of their terms, with a float32 stream (ZAYA1, Zyphra, 2025)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .layer import Residual


class ShiftScale(nn.Module):
    """Shift, then scale of each channel: (x + shift) * scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to no change."""
        parameter.fill_(float(name == "scale"))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.shift) * self.scale  # (..., width)


class ShiftedResidual(Residual):
    """Residual block: x -> keep(x) + out(step(before(x))), with a float32 stream and a `ShiftScale` on both terms."""

    def __init__(self, step: nn.Module, width: int, *, before: nn.Module) -> None:
        super().__init__(step, before=before, out=ShiftScale(width))
        self.keep = ShiftScale(width)

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width), float32; `args` go to the step."""
        x = x.float()
        return self.keep(x) + self.out(self.step(self.before(x), *args))

    @property
    def supports_selected_tokens(self) -> bool:
        return False
