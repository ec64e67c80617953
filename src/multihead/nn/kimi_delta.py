"""Kimi Delta Attention: the gated delta rule with a decay for each channel of keys (arXiv:2510.26692)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activation
from .delta_rule import unit
from .forward_context import ForwardContext
from .gated_delta_net import GatedRMSNorm, read_sequences
from .state_space import ShortConvolution, StateSpaceCache
from .weights import Float32Parameters, Linear


class Factors(nn.Module):
    """A matrix as two factors: up(down(x))."""

    def __init__(self, width: int, rank: int, out: int) -> None:
        super().__init__()
        self.down, self.up = Linear(width, rank, bias=False), Linear(rank, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))  # (tokens, width) to (tokens, rank) to (tokens, out)


class KimiDeltaAttention(Float32Parameters):
    """Mixer whose heads keep a matrix each, and forget each channel of their keys at its own rate.

    `decay` and `step`, which make the rates, stay float32: a rate is applied at every token of a text.

    Args:
        heads, head_width: of queries, keys and values. kernel: of the short convolution over them. act: after it.
        norm_eps: of the gated norm of a head's output.
        factored: the matrices of rates and of output gates are products of two (Kimi Linear), not whole (Ling 3.0).
        bound: rates are this negative number times a sigmoid (Ling 3.0); None for a softplus.
    """

    widened = (torch.float16, torch.bfloat16)
    unpacked: ClassVar = ("write",)  # few outputs, which decide over the state

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        *,
        kernel: int,
        norm_eps: float,
        act: str = "silu",
        factored: bool = True,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.qkv = Linear(width, 3 * inner, bias=False)
        self.convolution = ShortConvolution(3 * inner, kernel, bias=False)
        self.forget, self.gate = (
            Factors(width, head_width, inner) if factored else Linear(width, inner, bias=False) for _ in range(2)
        )
        self.write = Linear(width, heads, bias=False)
        self.decay, self.step = nn.Parameter(torch.empty(heads)), nn.Parameter(torch.empty(inner))
        self.norm = GatedRMSNorm(head_width, norm_eps, "sigmoid", wide=True)
        self.output = Linear(inner, width, bias=False)
        self.act, self.head_width, self.bound = activation(act), head_width, bound

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize decays to the logarithms of 1 to 16, and steps to the inverse softplus of 0.001 to 0.1."""
        if name == "decay":
            parameter.uniform_(1.0, 16.0).log_()
        else:
            parameter.uniform_(-6.9, -2.3).exp_()
            parameter.add_(torch.log(-torch.expm1(-parameter)))

    def memory(self) -> StateSpaceCache:
        return StateSpaceCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: StateSpaceCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        mixed = self.act(self.convolution(self.qkv(x), context, memory))
        q, k, v = (self._split(part) for part in mixed.float().chunk(3, -1))  # (tokens, heads, head width) each
        times = self._split(self.forget(x).float() + self.step.float())  # (tokens, heads, head width)
        rates = torch.exp(self.decay.float())[:, None]  # (heads, 1)
        # (tokens, heads, head width)
        decay = -rates * F.softplus(times) if self.bound is None else self.bound * torch.sigmoid(rates * times)
        beta = torch.sigmoid(self.write(x).float())  # (tokens, heads)
        y = read_sequences(unit(q) * self.head_width**-0.5, unit(k), v, decay, beta, context, memory)
        return self.output(self.norm(y.to(x.dtype), self._split(self.gate(x))).flatten(-2))  # (tokens, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_width))  # (tokens, heads * head width) to (tokens, heads, head width)
