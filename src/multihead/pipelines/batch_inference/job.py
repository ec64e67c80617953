"""Work of a batch job: load the pipeline, answer a part, write its table. Every engine calls these functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...extensions import find_object
from .columns import input_of
from .parts import PartFolder, Summary
from .sources import Part


@dataclass(frozen=True)
class Recipe:
    """Arguments of `multihead.pipeline`, by which another process loads the same one."""

    task: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, device: Any = None) -> Any:
        """Return the pipeline. `device` replaces that of the options."""
        load = find_object("pipeline.pipeline", "multihead.pipelines")
        return load(self.task, self.model, **{**self.options, **({} if device is None else {"device": device})})


@dataclass(frozen=True)
class BatchJob:
    """Job that workers share; all of it can be pickled.

    Args:
        strict: the first row that cannot be answered ends the job. options: of the call.
    """

    recipe: Recipe
    folder: PartFolder
    strict: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableTask:
    """Table of a part that is answered. `columns`: those of all parts, as `Columns.state` gives them."""

    name: str
    columns: Mapping[str, Any]


Task = Part | TableTask


def answer_part(pipe: Any, job: BatchJob, part: Part, advance: Callable[[], None] = lambda: None) -> Summary:
    """Answer the rows of a part and write them.

    The rows of a part are batched without any others, so that its answers do not depend on the engine, on the order
    of parts or on an earlier stop.

    Args:
        advance: called after each row.

    Raises:
        InvalidInput: nothing can be written. With `strict`, the error of the first row without an answer.
    """
    options = {**finish_options(pipe, job.options), **job.options}
    stream = pipe.stream(list(map(input_of, part.items)), strict=job.strict, live=False, first=part.begin, **options)

    def answers() -> Iterator[tuple[Any, Sequence[str]]]:
        for answer in stream:
            yield answer, stream.metadata.row_notices
            advance()

    return job.folder.write_rows(part, answers())


def finish_options(pipe: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that a job adds to those of a call: finish reasons, and a seed where tokens are drawn."""
    added: dict[str, Any] = {}
    if getattr(pipe, "says_finish_reason", False) and "return_finish_reason" not in pipe.defaults:
        added["return_finish_reason"] = True
    if pipe.numbers_inputs:
        config = pipe.config(pipe.resolve_options(**options))
        if config.do_sample and config.seed is None:
            added["seed"] = 0
    return added


def perform(pipe: Callable[[], Any], job: BatchJob, task: Task) -> Summary:
    """Perform a task of a job. `pipe`: returns the pipeline, which only answers need."""
    if isinstance(task, TableTask):
        return job.folder.write_part(task.name, task.columns)
    return answer_part(pipe(), job, task)
