"""Trainer methods that the example scripts of Transformers call, in addition to training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..terminal import visible
from .distributed.process_group import ProcessGroup
from .reporting import results
from .state import TrainerState


class ScriptMethods:
    """Methods that print and write metrics and state."""

    process_group: ProcessGroup
    state: TrainerState

    @property
    def output_dir(self) -> Path:
        """Output folder."""
        raise NotImplementedError

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Print the metrics of a split: train, eval or test."""
        if self.process_group.is_first:
            print(visible(results.metrics_table(split, metrics)))

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Write `SPLIT_results.json` into the output folder and, with `combined`, update `all_results.json`."""
        if self.process_group.is_first:
            results.save(self.output_dir, split, metrics, combined=combined)

    def is_world_process_zero(self) -> bool:
        """Return True in the first of all processes."""
        return self.process_group.is_first

    def is_local_process_zero(self) -> bool:
        """Return True in the first process of a machine."""
        return self.process_group.local_rank == 0

    def save_state(self) -> None:
        """Write `trainer_state.json` into the output folder."""
        if self.process_group.is_first:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            self.state.save_to_json(self.output_dir / "trainer_state.json")
