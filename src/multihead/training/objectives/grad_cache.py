"""The gradient of a loss that compares all examples of a step, computed pass by pass (GradCache, Gao et al., 2021,
arXiv:2101.06983): what the passes represent first, without keeping a graph, then its gradient, then each pass again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributed.process_group import World
from .token import Objective, Part


def parts(
    objective: Objective, run: Callable[[Any], tuple[Tensor, Any]], idle: Sequence[Any], passes: Sequence[Any],
    world: World,
) -> tuple[Tensor, list[Redrawn]]:  # fmt: skip
    """The loss of the whole step, the same on every process, and its passes with their gradients, the idle ones first.

    Args:
        run: computes a pass. idle: passes that count nothing. world: the processes whose examples are compared.
    """
    drawn, found = [], []
    for batch in [*idle, *passes]:
        drawn.append(Generators.now(objective.device))
        found.append(run(Part(batch))[0].detach().float())  # with a graph, since without one dropout is drawn otherwise
    own = torch.cat(found[len(idle) :] or [found[0][:0]])
    every, begin = world.joined(own)
    labels = labels_of([example for batch in passes for example in batch], idle, every.device)
    all_labels = None if labels is None else world.joined(labels)[0]
    every = every.detach().requires_grad_()
    with torch.enable_grad():
        loss = objective.compared(every, all_labels)
        (gradients,) = torch.autograd.grad(loss, every)
    shares = gradients[begin : begin + len(own)].split([len(batch) for batch in passes])
    each = [*(torch.zeros_like(found[n]) for n in range(len(idle))), *shares]
    made = [Part(batch, share) for batch, share in zip([*idle, *passes], each, strict=True)]
    return loss.detach(), [Redrawn(part, state) for part, state in zip(made, drawn, strict=True)]


class Redrawn:
    """A pass that draws its dropout as it was drawn before."""

    def __init__(self, part: Part, state: Generators) -> None:
        self.part, self.state = part, state

    def __call__(self, run: Callable[[Any], tuple[Tensor, Any]]) -> Tensor:
        self.state.set()
        return run(self.part)[0]


class Generators:
    """The state of torch's generators."""

    def __init__(self, device: torch.device, host: Tensor, own: Tensor | None) -> None:
        self.device, self.host, self.own = device, host, own

    @classmethod
    def now(cls, device: torch.device) -> Generators:
        own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), own)

    def set(self) -> None:
        torch.set_rng_state(self.host)
        if self.own is not None:
            torch.cuda.set_rng_state(self.own, self.device)


def labels_of(examples: Sequence[Any], idle: Sequence[Any], device: torch.device) -> Tensor | None:
    """(examples,), the scores of a process's examples, none or not, where examples have any."""
    known = [*examples, *(example for batch in idle for example in batch)]
    if not all("labels" in example for example in known):
        return None
    return torch.tensor(
        np.array([float(example["labels"]) for example in examples]), dtype=torch.float32, device=device
    )
