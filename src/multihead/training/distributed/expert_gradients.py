"""Experts without tokens rest in a step, on several devices as on one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...nn.experts import ExpertList
from .process_group import World


class Experts:
    """Notes which experts are sent tokens.

    What makes gradients of several devices one gives zeros to parameters that only some devices read; an optimizer
    moves a weight whose gradient is zero by its momentum, and leaves one alone that has no gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        self.all = [expert for module in model.modules() if isinstance(module, ExpertList) for expert in module]
        self.read = [False] * len(self.all)
        for number, expert in enumerate(self.all):
            expert.register_forward_hook(lambda *_, number=number: self._note(number))

    def _note(self, number: int) -> None:
        self.read[number] = True

    def forget(self) -> None:
        """What was read until now does not count."""
        self.read = [False] * len(self.all)

    def rest(self, world: World) -> None:
        """Takes the gradients of those that no device has sent tokens to since `forget`."""
        if not self.all:
            return
        read: Any = world.total(torch.tensor(self.read, dtype=torch.float32, device=world.device))
        for expert, was in zip(self.all, read.tolist(), strict=True):
            for parameter in expert.parameters() if not was else ():
                parameter.grad = None
        self.forget()
