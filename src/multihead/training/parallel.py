"""Training on several devices: which examples each process sees, and what wraps the objective."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .arguments import TrainingArguments
from .objectives import Objective
from .world import World


class Replicated(DistributedDataParallel):
    """torch's data parallelism over an objective, whose gradients are averaged in the last pass of a step only."""


@dataclass(frozen=True)
class Parallel:
    """How processes share the work.

    Args:
        replicas: processes that read batches of their own.
    """

    world: World
    replicas: int

    @classmethod
    def of(cls, arguments: TrainingArguments, world: World) -> Parallel:
        return cls(world, world.size)

    def share(self, batches: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """This process's batches of a step."""
        return list(batches[self.world.rank :: self.world.size])

    def wrapped(self, objective: Objective, arguments: TrainingArguments) -> nn.Module:
        """What a step calls."""
        if self.world.size == 1:
            return objective
        return Replicated(objective, device_ids=[self.world.local] if objective.device.type == "cuda" else None)

    @contextmanager
    def whole(self, model: nn.Module, optimizer: Any = None) -> Iterator[None]:
        """Parameters are whole on the first process inside."""
        yield
