"""Names of the reference's pipelines besides the pipelines themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import MultiheadError

PipelineException = MultiheadError


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
