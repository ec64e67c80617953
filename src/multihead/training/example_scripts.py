"""What the reference's example scripts call of a Trainer, beside training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..terminal import visible
from .distributed.process_group import World
from .reporting import results
from .state import TrainerState


class ForScripts:
    """Numbers and states that scripts print and write."""

    world: World
    state: TrainerState

    @property
    def place(self) -> Path:
        """The output folder."""
        raise NotImplementedError

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints numbers under the name of what they were measured on: train, eval, test."""
        if self.world.first:
            print(visible(results.table(split, metrics)))

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Writes `SPLIT_results.json` into the output folder, and `combined` with all others `all_results.json`."""
        if self.world.first:
            results.save(self.place, split, metrics, combined=combined)

    def is_world_process_zero(self) -> bool:
        """Whether this process speaks for all."""
        return self.world.first

    def is_local_process_zero(self) -> bool:
        """Whether this process speaks for its machine."""
        return self.world.local == 0

    def save_state(self) -> None:
        """Writes `trainer_state.json` into the output folder."""
        if self.world.first:
            self.place.mkdir(parents=True, exist_ok=True)
            self.state.save_to_json(self.place / "trainer_state.json")
