"""Routed and shared experts whose weights a router decides together (Inkling, Thinking Machines Lab, 2026)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .experts import ExpertList, RoutedExperts, noted
from .feedforward import GatedFeedForward
from .weights import Float32Parameters


class JointTopK(Float32Parameters):
    """Top-k of sigmoid scores; the sigmoids of those and of shared experts, over their sum, are the weights.

    Args:
        count: of routed experts, whose scores come first. chosen: of them for a token. scale: of the weights, beside a
            learned one.
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, count: int, chosen: int, *, scale: float) -> None:
        super().__init__()
        self.correction, self.strength = nn.Parameter(torch.empty(count)), nn.Parameter(torch.empty(1))
        self.chosen, self.scale = chosen, scale

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to a balance that changes nothing, and to the scale of 1."""
        parameter.fill_(float(name == "strength"))

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (tokens, chosen + shared) and routed experts (tokens, chosen), of all experts' scores."""
        routed, shared = scores.float().split((len(self.correction), scores.shape[1] - len(self.correction)), -1)
        # The correction balances the load of experts: it changes who is chosen, but no weight.
        experts = (routed.sigmoid() + self.correction.float()).topk(self.chosen, -1).indices  # (tokens, chosen)
        together = torch.cat([routed.gather(-1, experts), shared], -1)  # (tokens, chosen + shared)
        return F.logsigmoid(together).softmax(-1) * self.scale * self.strength.float(), experts


class JointExperts(RoutedExperts):
    """Routed experts and shared ones, which every token passes; all weights of a token have one sum.

    Args:
        shared: the shared ones; the router scores them last.
    """

    def __init__(self, width: int, experts: ExpertList, shared: ExpertList, rule: JointTopK) -> None:
        super().__init__(width, experts, len(experts) + len(shared), rule, wide=True)
        self.shared = shared

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (tokens, chosen + shared) and routed experts (tokens, chosen)."""
        scores = self.scores(x)  # (tokens, experts + shared)
        noted(scores[:, : scores.shape[1] - len(self.shared)])
        return self.rule(scores)

    def mix(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Return the weighted sum of the results of chosen and shared experts for x, (tokens, width)."""
        routed, shared = weights.to(x.dtype).split((chosen.shape[1], len(self.shared)), -1)
        out = super().mix(x, routed, chosen)
        for number, share in enumerate(shared.unbind(-1)):
            out = out + self.shared(x, number) * share[:, None]
        return out


class ScaledFeedForward(GatedFeedForward):
    """Gated feed-forward whose result has a learned scale."""

    def __init__(self, width: int, inner: int, act: str) -> None:
        super().__init__(width, inner, act)
        self.strength = nn.Parameter(torch.empty(1))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return super().forward(x) * self.strength
