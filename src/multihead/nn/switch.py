"""Routed feed-forwards of Switch Transformers (Fedus et al., 2021, arXiv:2101.03961): one expert a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import LayerCache
from .forward_context import ForwardContext
from .layer import CrossLayer, Layer
from .ragged import sequence_ids
from .weights import Linear


class SwitchFeedForward(nn.Module):
    """Feed-forward with one expert a token, whose output is scaled by the router's probability.

    An expert takes the first `capacity` tokens of a text that choose it; later ones get zero.

    Args:
        expert: makes one. precision: of the router. jitter: relative noise on the router's input, in training.
    """

    unpacked: ClassVar = ("router",)  # its numbers decide who is chosen

    def __init__(
        self,
        width: int,
        experts: int,
        expert: Callable[[], nn.Module],
        *,
        capacity: int,
        bias: bool = False,
        precision: torch.dtype = torch.float32,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        self.router, self.experts = Linear(width, experts, bias=bias), nn.ModuleList(expert() for _ in range(experts))
        self.capacity, self.precision, self.jitter = capacity, precision, jitter

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        weight, chosen, fits = self.route(x, context)  # (tokens,) each
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = ((chosen == number) & fits).nonzero().flatten()  # (tokens of this expert,)
            if rows.numel():
                # A token has one expert, so no row is written twice.
                out = out.index_copy(0, rows, (expert(x[rows]) * weight[rows, None]).to(x.dtype))
        return out

    def route(self, x: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weight, the expert, and whether the expert has capacity, (tokens,) each."""
        weight, chosen = self._scores(x).max(-1)  # (tokens,) each
        return weight, chosen, self._place(chosen, context) <= self.capacity

    def _scores(self, x: Tensor) -> Tensor:
        """Return router probabilities (tokens, experts) in x's precision."""
        wide = x.to(self.precision)  # (tokens, width); rounded scores could choose another expert
        if self.training and self.jitter > 0:
            wide = wide * torch.empty_like(wide).uniform_(1.0 - self.jitter, 1.0 + self.jitter)
        bias = None if self.router.bias is None else self.router.bias.to(self.precision)
        return F.linear(wide, self.router.weight.to(self.precision), bias).softmax(-1).to(x.dtype)

    def _place(self, chosen: Tensor, context: ForwardContext) -> Tensor:
        """Return each token's rank among the tokens of its sequence that chose its expert, (tokens,)."""
        taken = F.one_hot(chosen, self.router.out_features)  # (tokens, experts)
        # (tokens + 1, experts), choices before each row
        total = torch.cat([taken.new_zeros(1, taken.shape[1]), taken.cumsum(0)])
        # First row of each token's sequence, (tokens,).
        begins = torch.tensor(context.runs.begins, device=chosen.device)[sequence_ids(context.runs, chosen.device)]
        return (total[1:] - total[begins]).gather(1, chosen[:, None])[:, 0]  # (tokens,); the first one has rank 1


class SwitchLayer(Layer):
    """Layer that passes sequence boundaries to its feed-forward."""

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        return self.ffn(self.attention(x, context, memory), context)


class SwitchCrossLayer(CrossLayer):
    """Decoder layer that passes sequence boundaries to its feed-forward."""

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        x = self.attention(x, context, memory)
        if context.encoder_output is not None:
            x = self.cross(x, context)
        return self.ffn(x, context)
