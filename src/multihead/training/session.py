"""Interface of the Trainer for the modules below it: the training loop, checkpoints and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from .arguments import TrainingArguments
from .callbacks import Callbacks, Event
from .checkpointing.folders import Checkpoints
from .data.sampler import EpochSampler
from .distributed.parallel import Parallel
from .distributed.process_group import ProcessGroup
from .hub_uploads import HubUploads
from .objectives.token import Objective
from .optim.optimizers import WeightAverage
from .state import TrainerControl, TrainerState
from .tasks.base import TrainingJob


class TrainingSession(Protocol):
    """Attributes and methods of a `Trainer` that other modules use."""

    args: TrainingArguments
    model: Any
    job: TrainingJob
    objective: Objective
    train_dataset: Any
    eval_dataset: Any
    state: TrainerState
    control: TrainerControl
    callbacks: Callbacks
    checkpoints: Checkpoints
    average: WeightAverage | None
    process_group: ProcessGroup
    parallel: Parallel
    uploads: HubUploads

    @property
    def device(self) -> torch.device: ...
    @property
    def output_dir(self) -> Path: ...
    def features(self, source: Any, *, training: bool, require_labels: bool = True) -> Any: ...
    def sampler(self, features: Any) -> EpochSampler: ...
    def evaluate(self) -> dict[str, float]: ...
    def log(self, logs: dict[str, Any]) -> None: ...
    def notify(self, event: Event, **values: Any) -> None: ...
    @property
    def save_model(self) -> Any: ...
