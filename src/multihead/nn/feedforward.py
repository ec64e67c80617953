"""Feed-forward networks: two linear layers with an activation, or three with a gate."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn

from .activations import activation
from .weights import Dropout, Linear, round_like


class FeedForward(nn.Module):
    """Feed-forward network: down(act(up(x))).

    Args:
        up, down: layers that take the plain ones' places (SqueezeBERT's groups).
    """

    def __init__(
        self,
        width: int,
        inner: int,
        act: str,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        up: nn.Module | None = None,
        down: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.up = up or Linear(width, inner, bias=bias)
        self.down = down or Linear(inner, width, bias=bias)
        self.act, self.dropout = activation(act), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.act(self.up(x))))


class GatedFeedForward(nn.Module):
    """Gated feed-forward network: down(act(gate(x)) * up(x)) (Shazeer, 2020, arXiv:2002.05202).

    Args:
        scales: of the gate before its activation, and of the result (Falcon-H1).
        down: a layer that takes the plain one's place (BitNet's norm before it).
    """

    def __init__(
        self,
        width: int,
        inner: int,
        act: str,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        scales: tuple[float, float] = (1.0, 1.0),
        down: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scales = scales
        self.gate, self.up = Linear(width, inner, bias=bias), Linear(width, inner, bias=bias)
        self.down = down or Linear(inner, width, bias=bias)
        self.act, self.dropout = activation(act), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.scales == (1.0, 1.0):
            return self.down(self.dropout(self.act(self.gate(x)) * self.up(x)))
        gate, out = self.scales
        return self.down(self.dropout(self.act(self.gate(x) * gate) * self.up(x))) * out


class SparseGatedFeedForward(GatedFeedForward):
    """Gated feed-forward whose gates are cut at a quantile of a normal distribution (Gemma 3n).

    Args:
        sparsity: share of the gates that would be zero if they were normally distributed, above 0 and below 1.
    """

    def __init__(self, width: int, inner: int, act: str, sparsity: float) -> None:
        super().__init__(width, inner, act)
        self.deviations = NormalDist().inv_cdf(sparsity)  # above the mean

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x)  # (tokens, inner)
        spread = gate.std(-1, keepdim=True, unbiased=False) * round_like(gate, self.deviations)  # (tokens, 1)
        gate = (gate - (gate.mean(-1, keepdim=True) + spread)).relu()
        return self.down(self.dropout(self.act(gate) * self.up(x)))


class BoundedGatedFeedForward(GatedFeedForward):
    """Gated feed-forward with bounded factors: down(min(act(gate(x)), bound) * clamp(up(x), -bound, bound)) (Ling 3.0).

    Args:
        bound: above 0. A gate's lower side needs none: its activation is bounded there.
    """

    def __init__(self, width: int, inner: int, act: str, bound: float) -> None:
        super().__init__(width, inner, act)
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.act(self.gate(x)).clamp(max=self.bound), self.up(x).clamp(-self.bound, self.bound)
        return self.down(gate * up)  # (tokens, inner) to (tokens, width)


class BiasedGateFeedForward(GatedFeedForward):
    """Gated feed-forward with bounded factors, one of them around 1 (Phi-3-small's gegelu).

    down(act(min(gate(x), bound)) * (clamp(up(x), -bound, bound) + 1))
    """

    def __init__(self, width: int, inner: int, act: str, *, bound: float) -> None:
        super().__init__(width, inner, act, bias=True)
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate(x).clamp(max=self.bound), self.up(x).clamp(-self.bound, self.bound)
        return self.down(self.act(gate) * (up + 1.0))  # (tokens, inner) to (tokens, width)


class ClampedGatedFeedForward(GatedFeedForward):
    """Gated feed-forward whose factors are bounded before the gate's activation (DeepSeek-V4).

    down(act(min(gate(x), bound)) * clamp(up(x), -bound, bound))
    """

    def __init__(self, width: int, inner: int, act: str, bound: float) -> None:
        super().__init__(width, inner, act)
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate(x).clamp(max=self.bound), self.up(x).clamp(-self.bound, self.bound)
        return self.down(self.act(gate) * up)  # (tokens, inner) to (tokens, width)


class SoftcappedFeedForward(GatedFeedForward):
    """Gated feed-forward with soft bounds of the linear factors: down(cap(gate) * sigmoid(gate) * cap(up)) (Inkling 2).

    Args:
        gate_cap, up_cap: a cap is cap * tanh(x / cap).
    """

    def __init__(self, width: int, inner: int, gate_cap: float, up_cap: float) -> None:
        super().__init__(width, inner, "silu")
        self.gate_cap, self.up_cap = gate_cap, up_cap

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate(x).float(), self.up(x).float()  # (tokens, inner) each
        gated = torch.tanh(gate / self.gate_cap) * self.gate_cap * torch.sigmoid(gate)
        return self.down((gated * torch.tanh(up / self.up_cap) * self.up_cap).to(x.dtype))  # (tokens, width)


class OffsetGatedFeedForward(GatedFeedForward):
    """Gated feed-forward with GPT-OSS's gate: down((up + 1) * gate * sigmoid(alpha * gate)), bounded (MiniMax-M3).

    Args:
        alpha: steepness of the gate's sigmoid. bound: of gate and up.
    """

    def __init__(self, width: int, inner: int, *, alpha: float, bound: float) -> None:
        super().__init__(width, inner, "silu")
        self.alpha, self.bound = alpha, bound

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate(x).clamp(max=self.bound), self.up(x).clamp(-self.bound, self.bound)
        return self.down((up + 1) * gate * (gate * self.alpha).sigmoid())  # (tokens, inner) to (tokens, width)
