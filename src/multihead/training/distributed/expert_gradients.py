"""Gradients of experts without tokens, with the same result on several devices as on one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...nn.experts import ExpertList
from .process_group import ProcessGroup


class ExpertGradients:
    """Tracks which experts receive tokens, and removes the gradients of the others.

    Reduction over devices gives a zero gradient to parameters that no device used. An optimizer would still move such
    a weight by its momentum, but it leaves a weight without a gradient unchanged.
    """

    def __init__(self, model: nn.Module) -> None:
        self.experts = [expert for module in model.modules() if isinstance(module, ExpertList) for expert in module]
        self.used = [False] * len(self.experts)
        for number, expert in enumerate(self.experts):
            expert.register_forward_hook(lambda *_, number=number: self._mark(number))

    def _mark(self, number: int) -> None:
        self.used[number] = True

    def reset(self) -> None:
        """Mark all experts as unused."""
        self.used = [False] * len(self.experts)

    def drop_unused(self, group: ProcessGroup) -> None:
        """Remove the gradients of experts that received no token on any device since `reset`."""
        if not self.experts:
            return
        used: Any = group.sum(torch.tensor(self.used, dtype=torch.float32, device=group.device))
        for expert, count in zip(self.experts, used.tolist(), strict=True):
            for parameter in expert.parameters() if not count else ():
                parameter.grad = None
        self.reset()
