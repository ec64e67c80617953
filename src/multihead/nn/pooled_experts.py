"""Routed experts that read and write a narrower state, with norms around each (Muse Spark, Meta, 2026)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .experts import ExpertList, LatentExperts, Rule


class NormedExperts(nn.Module):
    """Experts whose results are normed, all by one norm, before a token's weights scale them."""

    def __init__(self, each: ExpertList, norm: nn.Module) -> None:
        super().__init__()
        self.each, self.norm = each, norm

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        return self.norm(self.each(x, expert))


class PooledExperts(LatentExperts):
    """Routed experts of a normed, narrower projection of the states.

    Args:
        before: norm of the narrow states. sharpness: of the router's scores.
    """

    def __init__(
        self,
        width: int,
        latent: int,
        experts: NormedExperts,
        rule: Rule,
        *,
        before: nn.Module,
        sharpness: float,
        **options: Any,
    ) -> None:
        super().__init__(width, latent, experts, len(experts.each), rule, wide=True, **options)
        self.before, self.sharpness = before, sharpness

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.widen(self.mix(self.before(self.narrow(x)), *self.route(x)))

    def scores(self, x: Tensor) -> Tensor:
        """Return the router's scores, (tokens, experts)."""
        return super().scores(x) * self.sharpness
