"""Routers that also read what the router of the layer before has read (ZAYA1, Zyphra, 2025, arXiv:2511.17127)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .experts import ExpertList, GroupedTopK, RoutedExperts, noted
from .forward_context import ForwardContext
from .hyper_connections import ContextLayer
from .norms import RMSNorm
from .weights import Linear


class SkippedExperts(ExpertList):
    """Experts that are separate modules; the one behind the last gives nothing, so that a token passes none."""

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        return self[expert](x) if expert < len(self) else torch.zeros_like(x)


class SkipTopK(GroupedTopK):
    """Softmax over experts and the choice of none, which comes last; a learned balancing bias changes the choice."""

    def __init__(self, count: int, chosen: int) -> None:
        super().__init__(count + 1, chosen, normalized=False, shared=True)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to a balance in which no token chooses none."""
        parameter.zero_()
        parameter[-1] = -1.0


class DepthRoutedExperts(RoutedExperts):
    """Routed experts whose router is a small network over a running sum of the layers' narrow states.

    Args:
        inner: width of the router's states. first: of the layers with a router, which has none before it.
    """

    unpacked: ClassVar[tuple[str, ...]] = ("narrow", "first", "second", "router")  # their numbers decide who is chosen

    def __init__(
        self, width: int, inner: int, experts: SkippedExperts, rule: SkipTopK, *, first: bool, eps: float
    ) -> None:
        super().__init__(inner, experts, len(experts) + 1, rule)
        self.narrow, self.norm = Linear(width, inner), RMSNorm(inner, eps)
        self.first, self.second = Linear(inner, inner), Linear(inner, inner)
        self.keep = None if first else nn.Parameter(torch.empty(inner))  # (inner,)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to the plain sum."""
        parameter.fill_(1.0)

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:  # type: ignore[override]
        """Map hidden states (tokens, width) to (tokens, width)."""
        states = self.narrow(x)  # (tokens, inner)
        if self.keep is not None:
            states = states + context.shared(DepthRoutedExperts) * self.keep
        context.share(DepthRoutedExperts, states, by_token=True)
        deep = F.gelu(self.second(F.gelu(self.first(self.norm(states)))))
        return self.mix(x, *self.rule(noted(self.router(deep))))


class DepthRoutedLayer(ContextLayer):
    """Layer whose router leaves its states to the next layer's."""

    shares = True
