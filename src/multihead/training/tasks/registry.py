"""Creation of training jobs from the entries of the task catalog."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import InvalidInput, UnsupportedOption
from ...pipelines.catalog import TRAINABLE, canonical_training_name
from ..objectives.padded_forward import has_own_forward
from .base import TrainingJob
from .dataset import DatasetJob


def create_job(
    model: Any, task: str | None, options: Mapping[str, Any], tokenizer: Any, data: Any, **settings: Any
) -> TrainingJob:
    """Create the job of a task, or the job of the model's head for tokenized data when `task` is None.

    Raises:
        UnsupportedOption: the task is unknown, or it does not take one of the options.
        InvalidInput: the model has no loss and no task is named.
    """
    if task is not None:
        return job_class(task)(model, tokenizer, options, data, **settings)
    if options:
        raise UnsupportedOption(f"options {', '.join(options)} belong to a task; name it: task=...")
    if isinstance(model, (str, Path)):
        raise InvalidInput(f"A model's name alone does not say what to train; name a task: {', '.join(TRAINABLE)}.")
    headless = hasattr(model, "head_type") and not model.head_type.labels and has_own_forward(model)
    if (headless and settings.get("loss") is None) or not isinstance(model, nn.Module):
        raise InvalidInput(
            f"A {type(model).__name__} has no loss of its own; name a task, one of {', '.join(TRAINABLE)}, load the "
            "model with a head, or give a torch module whose forward returns a loss."
        )
    return TrainingJob(model, tokenizer, **settings)


def job_class(task: str) -> type[DatasetJob]:
    """Return the job class of a task, by the task's name or an alias. Raises UnsupportedOption."""
    module, _, name = TRAINABLE[canonical_training_name(task)].job.partition(".")
    kind: type[DatasetJob] = getattr(import_module(f".{module}", __package__), name)
    return kind
