"""Weights of one task, in a checkpoint with low-rank changes for several (Jina embeddings v3, arXiv:2409.10173)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

WEIGHT, CHANGED = ".weight", ".parametrizations.weight.original"
DOWN, UP = ".parametrizations.weight.0.lora_A", ".parametrizations.weight.0.lora_B"


def has_tasks(stored: Mapping[str, Tensor]) -> bool:
    """True if a checkpoint has low-rank changes of weights."""
    return any(name.endswith(DOWN) for name in stored)


class TaskWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint under their usual names, with the changes of a task added.

    Args:
        task: number of the task; None for the weights without changes. scale: of the changes.
    """

    def __init__(self, stored: Mapping[str, Tensor], task: int | None, scale: float) -> None:
        self.stored, self.task, self.scale = stored, task, scale
        shown = (name for name in stored if not name.endswith((DOWN, UP)))
        self.names = {name.replace(CHANGED, WEIGHT): name for name in shown}

    def __getitem__(self, name: str) -> Tensor:
        place = self.names[name]
        weight = self.stored[place]
        stem = place.removesuffix(CHANGED)
        if self.task is None or stem == place:
            return weight
        # A linear layer's are (tasks, rank, inputs) and (tasks, outputs, rank), a table's (tasks, rows, rank) and
        # (tasks, rank, width).
        down, up = (self.stored[stem + leaf][self.task].float() for leaf in (DOWN, UP))
        change = up @ down if up.shape[0] == weight.shape[0] and down.shape[-1] == weight.shape[-1] else down @ up
        return (weight.float() + change * self.scale).to(weight.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
