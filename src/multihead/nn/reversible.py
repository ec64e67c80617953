"""Reversible residual layers (Gomez et al., 2017, arXiv:1707.04585) and axial positions, as Reformer has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .embeddings import LearnedPositions
from .forward_context import ForwardContext
from .weights import Dropout


class Doubled(nn.Module):
    """Two equal streams of states, side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], -1)  # (tokens, width) to (tokens, 2 width)


class ReversibleLayer(nn.Module):
    """Layer of two streams: the first grows by attention to the second, and this by a feed-forward of the first."""

    def __init__(
        self, attention: nn.Module, ffn: nn.Module, norms: tuple[nn.Module, nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.attention, self.ffn, self.dropout = attention, ffn, Dropout(dropout)
        self.attention_norm, self.ffn_norm = norms

    def forward(self, x: Tensor, context: ForwardContext, memory: object) -> Tensor:
        """Map both streams (tokens, 2 width) to the same."""
        first, second = x.chunk(2, -1)
        first = first + self.dropout(self.attention(self.attention_norm(second), context, memory))
        second = second + self.dropout(self.ffn(self.ffn_norm(first)))
        return torch.cat([first, second], -1)


class AxialTable(nn.Module):
    """Vectors of the cells of a grid: one of the cell's row, and one of its column."""

    def __init__(self, shape: tuple[int, int], widths: tuple[int, int]) -> None:
        super().__init__()
        self.num_embeddings = shape[0] * shape[1]
        self.rows, self.columns = (nn.Parameter(torch.empty(n, w)) for n, w in zip(shape, widths, strict=True))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.normal_(0.0, std)

    def forward(self, places: Tensor) -> Tensor:
        """Map places (tokens,) of the grid, row by row, to (tokens, width)."""
        count = self.columns.shape[0]
        return torch.cat([self.rows[places // count], self.columns[places % count]], -1)


class AxialPositions(LearnedPositions):
    """Learned positions whose table is a grid."""

    def __init__(self, shape: tuple[int, int], widths: tuple[int, int]) -> None:
        super().__init__(shape[0] * shape[1], sum(widths), table=AxialTable(shape, widths))
