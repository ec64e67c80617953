"""Experts with activated router scores (DeepSeek-V4, 2026), chosen by the best ones or by a table of token ids."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from .activations import activation
from .experts import RoutedExperts, SharedExpert, top_k_softmax
from .forward_context import ForwardContext
from .weights import Float32Parameters


class ActivatedTopK(Float32Parameters):
    """Top-k of activated scores with a learned balancing bias; weights sum to `scale` (DeepSeek-V4).

    Args:
        act: name of the scores' activation.
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, count: int, chosen: int, act: str, *, scale: float) -> None:
        super().__init__()
        self.correction = nn.Parameter(torch.empty(count))
        self.act, self.chosen, self.scale = activation(act), chosen, scale

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        p = self.act(scores)  # (tokens, experts)
        experts = (p + self.correction).topk(self.chosen, -1).indices  # (tokens, chosen)
        return shares(p.gather(1, experts)) * self.scale, experts


def shares(weights: Tensor) -> Tensor:
    """Return weights (tokens, chosen) divided by their sum."""
    return weights / (weights.sum(-1, keepdim=True) + 1e-20)  # no division by 0


class HashedExperts(RoutedExperts):
    """Routed experts that a fixed table chooses by a token's id; the router weights them (arXiv:2106.04426).

    Args:
        words: rows of the table. act: name of the scores' activation. scale: sum of a token's weights.
    """

    integers: ClassVar = ("table",)  # parameters that hold whole numbers
    looks_up_tokens: ClassVar[bool] = True  # the table belongs to one vocabulary

    def __init__(
        self, width: int, experts: nn.Module, count: int, *, words: int, chosen: int, act: str, scale: float
    ) -> None:
        super().__init__(width, experts, count, top_k_softmax(chosen))
        # (words, chosen)
        self.table = nn.Parameter(torch.empty(words, chosen, dtype=torch.long), requires_grad=False)
        self.act, self.scale = activation(act), scale

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Give each word experts in turn."""
        words, chosen = parameter.shape
        parameter.copy_(torch.arange(words * chosen, device=parameter.device).view(words, chosen) % self.count)

    def forward(self, x: Tensor, context: ForwardContext | None = None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width). Raises InvalidInput without ids."""
        if context is None or context.ids is None:
            raise InvalidInput("The experts of these layers are chosen by token ids: give input_ids, not vectors.")
        experts = self.table[context.ids]  # (tokens, chosen)
        return self.mix(x, shares(self.act(self.scores(x)).gather(1, experts)) * self.scale, experts)


class HashedAndSharedExperts(SharedExpert):
    """Hashed experts plus one that every token passes."""

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        return self.routed(x, context) + self.shared(x)  # (tokens, width)
