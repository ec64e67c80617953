"""Gradient of a loss that compares all examples of a step, computed pass by pass (GradCache, arXiv:2101.06983).

First all passes compute their representations without a graph, then the loss gives the gradient of the
representations, then each pass runs again with a graph and propagates its part of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributed.process_group import ProcessGroup
from .token import JointBatch, Objective


def joint_loss_passes(
    objective: Objective, run: Callable[[Any], tuple[Tensor, Any]], idle: Sequence[Any], passes: Sequence[Any],
    group: ProcessGroup,
) -> tuple[Tensor, list[RepeatedPass]]:  # fmt: skip
    """Return the loss of the whole step, equal on every process, and the passes to repeat, the idle passes first.

    Args:
        run: computes a pass. idle: passes without weight in the loss. group: processes whose examples are compared.
    """
    states, outputs = [], []
    for batch in [*idle, *passes]:
        states.append(RandomState.capture(objective.device))
        # with a graph, since dropout without a graph draws other numbers
        outputs.append(run(JointBatch(batch))[0].detach().float())
    own = torch.cat(outputs[len(idle) :] or [outputs[0][:0]])
    every, begin = group.gather_rows(own)
    labels = labels_of([example for batch in passes for example in batch], idle, every.device)
    all_labels = None if labels is None else group.gather_rows(labels)[0]
    every = every.detach().requires_grad_()
    with torch.enable_grad():
        loss = objective.joint_loss(every, all_labels)
        (gradients,) = torch.autograd.grad(loss, every)
    shares = gradients[begin : begin + len(own)].split([len(batch) for batch in passes])
    shares = [*(torch.zeros_like(outputs[n]) for n in range(len(idle))), *shares]
    batches = [JointBatch(batch, share) for batch, share in zip([*idle, *passes], shares, strict=True)]
    return loss.detach(), [RepeatedPass(batch, state) for batch, state in zip(batches, states, strict=True)]


class RepeatedPass:
    """A pass that is run again with the random numbers, and so the dropout, of its first run."""

    def __init__(self, batch: JointBatch, state: RandomState) -> None:
        self.batch, self.state = batch, state

    def __call__(self, run: Callable[[Any], tuple[Tensor, Any]]) -> Tensor:
        self.state.restore()
        return run(self.batch)[0]


class RandomState:
    """State of torch's random generators on the CPU and, if the device is a GPU, on the device."""

    def __init__(self, device: torch.device, cpu: Tensor, gpu: Tensor | None) -> None:
        self.device, self.cpu, self.gpu = device, cpu, gpu

    @classmethod
    def capture(cls, device: torch.device) -> RandomState:
        gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), gpu)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)


def labels_of(examples: Sequence[Any], idle: Sequence[Any], device: torch.device) -> Tensor | None:
    """Return the labels of examples (examples,), or None without labels.

    A process may have no examples; then the examples of its idle passes show whether there are labels.
    """
    known = [*examples, *(example for batch in idle for example in batch)]
    if not all("labels" in example for example in known):
        return None
    return torch.tensor(
        np.array([float(example["labels"]) for example in examples]), dtype=torch.float32, device=device
    )
