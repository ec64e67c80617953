"""A dense feed-forward and routed experts side by side, each between norms of its own (Gemma 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .experts import RoutedExperts, softmax_top_k


class DenseAndExperts(nn.Module):
    """dense(x) + experts(x), with norms before and after both; the router reads x through its own norm.

    Args:
        dense_norms, routed_norms: before and after each. route_norm: of what the router reads, times `route_scale`.
    """

    def __init__(
        self,
        dense: nn.Module,
        routed: RoutedExperts,
        *,
        dense_norms: tuple[nn.Module, nn.Module],
        routed_norms: tuple[nn.Module, nn.Module],
        route_norm: nn.Module,
        route_scale: float,
    ) -> None:
        super().__init__()
        self.dense, self.routed = dense, routed
        self.dense_in, self.dense_out = dense_norms
        self.routed_in, self.routed_out = routed_norms
        self.route_norm, self.route_scale = route_norm, route_scale

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        dense = self.dense_out(self.dense(self.dense_in(x)))  # (tokens, width)
        scored = self.route_norm(x) * self.route_scale  # (tokens, width)
        return dense + self.routed_out(self.routed.mix(self.routed_in(x), *self.routed.route(scored)))


class ScaledTopK(nn.Module):
    """Softmax over all experts, the top-k with weights that sum to 1, times a learned number of each expert."""

    def __init__(self, count: int, chosen: int) -> None:
        super().__init__()
        self.scale, self.rule = nn.Parameter(torch.empty(count)), softmax_top_k(chosen, normalized=True)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize the experts' numbers."""
        parameter.fill_(1.0)

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        weights, experts = self.rule(scores)  # (tokens, chosen) each
        return weights * self.scale[experts], experts
