"""Answers of a pipeline to the items of a request: forward passes are shared with other requests."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import UnsupportedConfig, UnsupportedTokenizer
from ...pipelines.answers import Failure, Metadata
from ...pipelines.base import ForwardPipeline, Pipeline
from ...pipelines.streaming_batcher import (
    ModelInput,
    count_characters,
    postprocess_window,
    prepare_window,
    valid_inputs,
)
from ..errors import ApiError
from .batcher import Times
from .served_model import ServedModel

log = logging.getLogger("multihead.serving")


@dataclass(frozen=True)
class PipelinePass:
    """Forward pass of a pipeline. Requests with equal options share it."""

    pipe: ForwardPipeline
    options: Any

    @property
    def single(self) -> bool:
        """True if the pipeline's forward is one pass; others compare inputs, or read what they share once."""
        return type(self.pipe).forward is ForwardPipeline.forward

    def __call__(self, groups: Sequence[Sequence[ModelInput]]) -> list[Sequence[Any]]:
        """Return the output of each input of each group, or its error."""
        outputs = iter(self.pipe.forward([each for group in groups for each in group], self.options))
        return [[next(outputs) for _ in group] for group in groups]


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
        try:
            if isinstance(pipe, ForwardPipeline):
                return await forward(model, pipe, items, options)
            return await model.in_writer(lambda: write(pipe, items, options))
        except (UnsupportedConfig, UnsupportedTokenizer) as error:  # which name files of this machine
            log.warning("%s cannot answer a request for %s: %s", model.id, pipe.task, error)
            raise ApiError(
                f"{model.id} cannot answer this request for {pipe.task}: its config or tokenizer lacks what it needs. "
                "Name another model.", param="model", code="wrong_task",
            ) from None  # fmt: skip


async def forward(
    model: ServedModel, pipe: ForwardPipeline, items: Sequence[Any], options: Mapping[str, Any]
) -> Answered:
    """Return the answers of a pipeline of forward passes, by the model's batcher."""
    batcher, times = model.batcher, Times()
    o = await batcher.in_thread(lambda: pipe.resolve_options(**options))
    window = await batcher.in_thread(lambda: prepare_window(pipe, 0, items, o))
    raise_first(window.inputs)
    run, items_inputs = PipelinePass(pipe, o), valid_inputs(window)
    # what one pass computes may be cut anywhere; other pipelines get all inputs of an item at once
    groups = [[each] for own in items_inputs for each in own] if run.single else [own for own in items_inputs if own]
    lengths = [sum(len(each.ids) for each in group) for group in groups]
    outputs = await batcher.compute(run, groups, lengths, times)

    def finish() -> Answered:
        metadata, left = pipe.start_metadata(), (output for group in outputs for output in group)
        by_item: Iterator[Any] = ([next(left) for _ in own] for own in items_inputs)
        answers = list(postprocess_window(pipe, window, 0, by_item, o, metadata))
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
