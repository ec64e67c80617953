"""Names of the reference's pipelines besides the pipelines themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import MultiheadError
from ..pipelines.catalog import ALIASES, TASKS, canonical_name

PipelineException = MultiheadError
SUPPORTED_TASKS: dict[str, Any] = dict(TASKS)  # a task's name -> its entry of the catalog
TASK_ALIASES: dict[str, str] = dict(ALIASES)


def get_supported_tasks() -> list[str]:
    """Return the names of the tasks, aliases included."""
    return sorted({*SUPPORTED_TASKS, *TASK_ALIASES})


def check_task(task: str) -> tuple[str, Any, tuple[str, ...] | None]:
    """Return a task's name, its entry, and the languages of `translation_en_to_fr`. Raises UnsupportedOption."""
    languages = re.fullmatch(r"translation_(\w+?)_to_(\w+)", task)
    name = canonical_name(task)
    return task if languages else name, TASKS[name], languages.groups() if languages else None


class KeyDataset:
    """A column of a data set, as inputs of a pipeline."""

    def __init__(self, dataset: Any, key: str) -> None:
        self.dataset, self.key = dataset, key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i][self.key]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class KeyPairDataset(KeyDataset):
    """Two columns of a data set, as pairs of texts."""

    def __init__(self, dataset: Any, key1: str, key2: str) -> None:
        super().__init__(dataset, key1)
        self.other = key2

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"text": self.dataset[i][self.key], "text_pair": self.dataset[i][self.other]}
