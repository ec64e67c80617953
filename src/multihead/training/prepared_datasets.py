"""Cache of prepared data sets, and the part of an endless source that a run reads."""

from __future__ import annotations

from typing import Any

from .arguments import TrainingArguments
from .data.source import StreamPrefix, is_live, is_stream
from .tasks.base import TrainingJob


class PreparedDatasets:
    """Cache of the features of the data sets of a job."""

    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._cache: dict[int, tuple[Any, int | None, bool, Any]] = {}  # source, its size, require_labels, features

    def features(self, source: Any, *, training: bool, require_labels: bool) -> Any:
        """Return the features of a source, prepared once, or again if the source has grown or is live.

        Args:
            require_labels: refuse rows without labels.
        """
        if is_live(source) and not training:
            return self._job.features(source, training=False, require_labels=require_labels)
        size = len(source) if hasattr(source, "__len__") else None
        entry = self._cache.get(id(source))
        if entry is None or entry[0] is not source or entry[1] != size or entry[2] < require_labels:
            features = self._job.features(source, training=training, require_labels=require_labels)
            while isinstance(source, StreamPrefix) and len(features) < source.size and source.read():
                features = self._job.features(source, training=training, require_labels=require_labels)
                size = len(source)
            entry = self._cache[id(source)] = (source, size, require_labels, features)
        return entry[3]


def limit_stream(source: Any, arguments: TrainingArguments, processes: int) -> Any:
    """Return the first items of a source without a length if `max_steps` limits the run; other sources unchanged."""
    if arguments.max_steps <= 0 or not is_stream(source):
        return source
    # an example has at least one token, so a batch has at most max_tokens_per_batch examples
    batch = arguments.max_tokens_per_batch or arguments.per_device_train_batch_size
    return StreamPrefix(source, arguments.max_steps * arguments.gradient_accumulation_steps * processes * batch)
