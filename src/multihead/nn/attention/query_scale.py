"""Scales of queries that grow with their position: attention temperature tuning (Llama 4, Ministral 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..forward_context import ForwardContext


class PositionScale(nn.Module):
    """Multiplies queries by 1 + weight * log(1 + floor((position + shift) / length)).

    The longer a text is, the more keys share the attention weights; larger scores keep them sharp (Nakanishi, 2025,
    arXiv:2501.19399).

    Args:
        length: tokens that the model was first trained on; queries of positions up to it stay as they are.
    """

    def __init__(self, weight: float, length: int, shift: int = 0) -> None:
        super().__init__()
        self.weight, self.length, self.shift = weight, length, shift

    @property
    def begin(self) -> int:
        """First position whose queries are changed."""
        return self.length - self.shift

    def forward(self, q: Tensor, context: ForwardContext) -> Tensor:
        """Scale queries (tokens, heads, head width)."""
        factors = context.cached(self, lambda: self._factors(context.positions))  # (tokens, 1, 1)
        return q * factors.to(q.dtype)

    def _factors(self, positions: Tensor) -> Tensor:
        steps = torch.floor((positions.float() + self.shift) / self.length)  # (tokens,), 0 within the first length
        return (1.0 + self.weight * torch.log1p(steps))[:, None, None]


class PowerScale(PositionScale):
    """Multiplies queries by a power of their positions: (1 + (position + 1) / length) ** weight (Beam)."""

    @property
    def begin(self) -> int:
        """First position whose queries are changed."""
        return 0

    def _factors(self, positions: Tensor) -> Tensor:
        return torch.exp(self.weight * torch.log1p((positions.float() + 1) / self.length))[:, None, None]


class LearnedLogScale(nn.Module):
    """Multiplies the queries of each head by a learned line of log(position + 1) (Mistral Large 4).

    Args:
        heads: of the queries.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.empty(heads)), nn.Parameter(torch.empty(heads))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to a factor of 1."""
        parameter.fill_(float(name == "bias"))

    def forward(self, q: Tensor, context: ForwardContext) -> Tensor:
        """Scale queries (tokens, heads, head width)."""
        logs = context.cached(LearnedLogScale, lambda: torch.log((context.positions + 1).float()))  # (tokens,)
        factors = self.scale * logs[:, None].to(q.dtype) + self.bias  # (tokens, heads)
        return q * factors[..., None]
