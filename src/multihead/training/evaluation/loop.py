"""Evaluation loop: losses and scores of a data set, over packed batches of similar lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ...errors import UnsupportedOption
from ...heads.losses import IGNORED
from ...token_batches import batches
from ..arguments import TrainingArguments
from ..data.features import Example
from ..distributed.fsdp import is_sharded, reshard
from ..distributed.process_group import ProcessGroup
from ..objectives.token import Objective
from ..optim.optimizer_step import autocast
from .metrics import EvalPrediction

EXTRA_COLUMNS = ("inputs", "loss")  # allowed entries of `include_for_metrics`


class PredictionOutput(NamedTuple):
    """Result of `Trainer.predict`.

    Args:
        predictions: scores (examples, ...); rows of unequal lengths are padded with -100.
        label_ids: labels, padded likewise. metrics: by name.
    """

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None


@dataclass
class EvaluationResult:
    """Losses and scores of a data set.

    Args:
        loss: sum of all losses. count: number of losses. scores, targets: of each example, in the order of the data.
        inputs, losses: input ids of each example and mean loss of its batch, if requested. seconds: run time.
    """

    loss: float = 0.0
    count: float = 0.0
    scores: list[Any] = field(default_factory=list)
    targets: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    losses: list[Any] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean loss over the evaluated examples."""
        return self.loss / max(self.count, 1)

    def eval_prediction(self) -> EvalPrediction:
        """Build the argument of `compute_metrics`."""
        return EvalPrediction(*(stack_arrays(each) for each in (self.scores, self.targets, self.inputs, self.losses)))


@torch.no_grad()
def evaluate_features(
    objective: Objective,
    features: Sequence[Example],
    lengths: Any,
    arguments: TrainingArguments,
    group: ProcessGroup,
    *,
    predict: bool,
    reduce: Callable[..., Any] | None = None,
    include: Sequence[str] = (),
    on_batch: Callable[[], None] = lambda: None,
) -> EvaluationResult:
    """Run a model over a data set; each process computes its share, and all get the whole result.

    Args:
        predict: collect scores and targets. reduce: function of `reduce_scores`.
        include: "inputs" and "loss", to collect for each example as well. on_batch: called after each batch.

    Raises:
        UnsupportedOption: an unknown entry of `include`, or "inputs" for examples of several texts.
    """
    if unknown := set(include) - set(EXTRA_COLUMNS):
        raise UnsupportedOption(f"include_for_metrics {sorted(unknown)[0]!r} is none of {', '.join(EXTRA_COLUMNS)}.")
    objective.eval()
    began = time.perf_counter()
    loss = torch.zeros(2, dtype=torch.float64)
    collected: dict[str, dict[int, Any]] = {name: {} for name in ("scores", "targets", "inputs", "losses")}
    for numbers, counts in _local_batches(objective, lengths, arguments, group):
        examples = [objective.prepare_example(features[n], (arguments.seed, 0, n)) for n in numbers]
        batch = objective.collate(examples)
        with autocast(arguments, objective.device, evaluation=True):
            part, scores = objective(batch, predict)
        if not counts:
            continue
        labeled = objective.has_labels(batch)
        count = objective.count(batch) if labeled else 0
        loss += torch.tensor([float(part), count], dtype=torch.float64)
        columns: dict[str, Sequence[Any]] = {}
        if predict:
            targets = objective.targets(batch) if labeled else []
            columns = {"scores": reduce_scores(reduce, scores or [], targets), "targets": targets}
        columns["inputs"] = objective.inputs(batch) if "inputs" in include else []
        columns["losses"] = [float(part) / max(count, 1)] * len(numbers) if "loss" in include and labeled else []
        for name, values in columns.items():
            collected[name].update(zip(numbers, values, strict=False))
        on_batch()
    reshard(objective)
    total, count = group.sum(loss.to(objective.device)).tolist()
    if predict or include:
        _gather(collected, group)
    ordered = {  # a column without values stays empty
        name: [store[n] for n in range(len(features)) if n in store] for name, store in collected.items()
    }
    return EvaluationResult(total, count, **ordered, seconds=time.perf_counter() - began)


def _gather(collected: dict[str, dict[int, Any]], group: ProcessGroup) -> None:
    """Add the values that other processes collected, in place."""
    every: list[Any] = group.gather_objects(collected)
    for other in every if group.size > 1 else ():
        for name, values in other.items():
            collected[name].update(values)


def reduce_scores(function: Callable[..., Any] | None, scores: Sequence[Any], targets: Sequence[Any]) -> list[Any]:
    """Apply `preprocess_logits_for_metrics` to the scores and targets of a batch; returns one value an example.

    Args:
        function: takes tensors (examples, ...) padded with -100, or tuples of them, and None for no targets. If its
            result has the padded length, the padding is removed from each example. None returns the scores.
    """
    if function is None or not scores:
        return list(scores)
    reduced = call_on_arrays(function, stack_arrays(scores), stack_arrays(targets))
    if isinstance(reduced, tuple):
        return list(zip(*reduced, strict=True))
    sizes = [0 if isinstance(one, tuple) or np.ndim(one) < 2 else len(one) for one in scores]
    padded = max(sizes) > 0 and reduced.ndim > 1 and reduced.shape[1] == max(sizes)
    return [row[:size] if padded else row for row, size in zip(reduced, sizes, strict=True)]


def call_on_arrays(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of tensors with arrays, or tuples of arrays; returns arrays."""

    def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
        return tuple(map(change, value)) if isinstance(value, tuple) else None if value is None else change(value)

    tensors = [mapped(value, torch.as_tensor) for value in arguments]
    return mapped(function(*tensors), lambda tensor: tensor.numpy())


def _local_batches(
    objective: Objective, lengths: Sequence[int], arguments: TrainingArguments, group: ProcessGroup
) -> Iterator[tuple[list[int], bool]]:
    """Yield the batches of this process, and whether they count.

    Examples of similar lengths share a batch if the loss is a sum over examples. With sharded parameters all processes
    need equal numbers of passes, so a process with one batch less repeats a batch that does not count.
    """
    if objective.splittable:
        every = list(batches(list(lengths), arguments.max_tokens_per_pass or 1 << 62))
    else:
        size = arguments.per_device_eval_batch_size
        every = [list(range(i, min(i + size, len(lengths)))) for i in range(0, len(lengths), size)]
    mine = every[group.rank :: group.size]
    yield from ((numbers, True) for numbers in mine)
    if is_sharded(objective) and len(mine) * group.size < len(every):
        yield every[0], False


def stack_arrays(values: Sequence[Any]) -> Any:
    """Stack arrays to one array (examples, ...), padded with -100 if lengths differ; None for no arrays."""
    if not len(values):
        return None
    if isinstance(values[0], tuple):
        return tuple(stack_arrays([value[i] for value in values]) for i in range(len(values[0])))
    arrays = [np.asarray(value) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:
        return np.stack(arrays)
    longest = max(array.shape[0] for array in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), IGNORED, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
