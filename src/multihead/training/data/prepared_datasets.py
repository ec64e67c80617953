"""Data sets as a model reads them: each prepared once, and of a source without an end no more than a run reads."""

from __future__ import annotations

from typing import Any

from ..arguments import TrainingArguments
from ..jobs import Job
from .source import Stream, is_live, is_stream


class Prepared:
    """The examples of the data sets that a job was given."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._known: dict[int, tuple[Any, int | None, bool, Any]] = {}  # source, its size, whether answers were sought

    def of(self, source: Any, *, training: bool, answers: bool) -> Any:
        """The examples of a source, prepared once; anew where it has grown, or makes others at each use.

        Args:
            answers: whether they must have what a loss needs.
        """
        if is_live(source) and not training:
            return self._job.features(source, training=False, answers=answers)
        size = len(source) if hasattr(source, "__len__") else None
        known = self._known.get(id(source))
        if known is None or known[0] is not source or known[1] != size or known[2] < answers:
            found = self._job.features(source, training=training, answers=answers)
            while isinstance(source, Stream) and len(found) < source.wanted and source.read():
                found, size = self._job.features(source, training=training, answers=answers), len(source)
            known = self._known[id(source)] = (source, size, answers, found)
        return known[3]


def bounded(source: Any, arguments: TrainingArguments, processes: int) -> Any:
    """A source without a length as its first items, in its order, where the settings say how many steps read it."""
    if arguments.max_steps <= 0 or not is_stream(source):
        return source
    each = arguments.max_tokens_per_batch or arguments.per_device_train_batch_size  # a token an example at least
    return Stream(source, arguments.max_steps * arguments.gradient_accumulation_steps * processes * each)
