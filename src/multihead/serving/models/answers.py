"""Answers of a pipeline to the items of a request: forward passes are shared with other requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...pipelines.answers import Failure, Metadata
from ...pipelines.base import ForwardPipeline, Pipeline
from ...pipelines.streaming_batcher import (
    ModelInput,
    count_characters,
    postprocess_window,
    prepare_window,
    valid_inputs,
)
from .batcher import Times
from .served_model import ServedModel


@dataclass(frozen=True)
class PipelinePass:
    """Forward pass of a pipeline. Requests with equal options share it."""

    pipe: ForwardPipeline
    options: Any

    @property
    def single(self) -> bool:
        return type(self.pipe).forward is ForwardPipeline.forward

    def __call__(self, inputs: Sequence[ModelInput]) -> Sequence[Any]:
        """Return the output of each input, or its error."""
        return self.pipe.forward(inputs, self.options)


@dataclass
class Answered:
    """Answers to the items of a request.

    Args:
        metadata: with notices, and the number of tokens read.
    """

    answers: list[Any]
    metadata: Metadata
    times: Times = field(default_factory=Times)


async def answer(model: ServedModel, pipe: Pipeline, items: Sequence[Any], options: Mapping[str, Any]) -> Answered:
    """Return the answers of a pipeline. Raises the error of the first item that has no answer."""
    with model.batcher.admit(count_characters(list(items))):
        if isinstance(pipe, ForwardPipeline):
            return await forward(model, pipe, items, options)
        return await model.in_writer(lambda: write(pipe, items, options))


async def forward(
    model: ServedModel, pipe: ForwardPipeline, items: Sequence[Any], options: Mapping[str, Any]
) -> Answered:
    """Return the answers of a pipeline of forward passes, by the model's batcher."""
    batcher, times = model.batcher, Times()
    o = await batcher.in_thread(lambda: pipe.resolve_options(**options))
    window = await batcher.in_thread(lambda: prepare_window(pipe, 0, items, o))
    raise_first(window.inputs)
    inputs = [each for own in valid_inputs(window) for each in own]
    outputs = await batcher.compute(PipelinePass(pipe, o), inputs, [len(each.ids) for each in inputs], times)

    def finish() -> Answered:
        metadata, left = pipe.start_metadata(), iter(outputs)
        groups: Iterator[Any] = ([next(left) for _ in own] for own in valid_inputs(window))
        answers = list(postprocess_window(pipe, window, 0, groups, o, metadata))
        raise_first(answers)
        return Answered(answers, metadata, times)

    return await batcher.in_thread(finish)


def write(pipe: Pipeline, items: Sequence[Any], options: Mapping[str, Any]) -> Answered:
    """Return the answers of a pipeline that generates."""
    stream = pipe.stream(list(items), **options)
    return Answered(list(stream), stream.metadata)


def raise_first(answers: Sequence[Any]) -> None:
    """Raise the error of the first item that has no answer."""
    failure = next((each for each in answers if isinstance(each, Failure)), None)
    if failure is not None:
        raise failure.error
