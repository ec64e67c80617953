"""What a model says of a data set: losses, scores and metrics, over unpadded batches of alike lengths."""

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
from ..distributed.fsdp import gathered_no_more, is_sharded
from ..distributed.process_group import World
from ..objectives.packed_batch import Example
from ..objectives.token import Objective
from ..optim.optimizer_step import precision
from .metrics import EvalPrediction

KEPT = ("inputs", "loss")  # what `include_for_metrics` may name


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` gives.

    Args:
        predictions: scores, (examples, ...); rows of unlike lengths are padded with -100.
        label_ids: likewise. metrics: by name.
    """

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None


@dataclass
class Seen:
    """What an evaluation saw.

    Args:
        loss: sum of all losses. count: how many. scores, targets: of each example, in the data's order.
        inputs, losses: likewise, the ids that it was read as and the mean loss of its batch, where they are asked for.
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
        return self.loss / max(self.count, 1)

    def evaluated(self) -> EvalPrediction:
        """What `compute_metrics` gets."""
        return EvalPrediction(*(stacked(each) for each in (self.scores, self.targets, self.inputs, self.losses)))


@torch.no_grad()
def see(
    objective: Objective,
    features: Sequence[Example],
    lengths: Any,
    arguments: TrainingArguments,
    world: World,
    *,
    predict: bool,
    reduce: Callable[..., Any] | None = None,
    keep: Sequence[str] = (),
    each: Callable[[], None] = lambda: None,
) -> Seen:
    """Runs a model over a data set; every process reads its share and gets the whole.

    Args:
        predict: keeps scores and targets. reduce: of `reduced`, what is kept of each batch's scores.
        keep: "inputs" and "loss", what is kept of each example besides. each: is called after each batch.

    Raises:
        UnsupportedOption: something else to keep, or inputs that are no run of ids.
    """
    if wrong := set(keep) - set(KEPT):
        raise UnsupportedOption(f"include_for_metrics {sorted(wrong)[0]!r} is none of {', '.join(KEPT)}.")
    objective.eval()
    began = time.perf_counter()
    loss = torch.zeros(2, dtype=torch.float64)
    kept: dict[str, dict[int, Any]] = {name: {} for name in ("scores", "targets", "inputs", "losses")}
    for numbers, counts in _share(objective, lengths, arguments, world):
        examples = [objective.ready(features[n], (arguments.seed, 0, n)) for n in numbers]
        batch = objective.collate(examples)
        with precision(arguments, objective.device, evaluation=True):
            part, found = objective(batch, predict)
        if not counts:
            continue
        labeled = objective.labeled(batch)
        count = objective.count(batch) if labeled else 0
        loss += torch.tensor([float(part), count], dtype=torch.float64)
        given: dict[str, Sequence[Any]] = {}
        if predict:
            targets = objective.targets(batch) if labeled else []
            given = {"scores": reduced(reduce, found or [], targets), "targets": targets}
        given["inputs"] = objective.inputs(batch) if "inputs" in keep else []
        given["losses"] = [float(part) / max(count, 1)] * len(numbers) if "loss" in keep and labeled else []
        for name, values in given.items():
            kept[name].update(zip(numbers, values, strict=False))
        each()
    gathered_no_more(objective)
    total, count = world.total(loss.to(objective.device)).tolist()
    if (predict or keep) and world.size > 1:
        every: list[Any] = world.gathered(kept)
        for other in every:
            for name, values in other.items():
                kept[name].update(values)
    ordered = {  # a model that gives no scores has none for any example
        name: [store[n] for n in range(len(features)) if n in store] for name, store in kept.items()
    }
    return Seen(total, count, **ordered, seconds=time.perf_counter() - began)


def reduced(function: Callable[..., Any] | None, scores: Sequence[Any], targets: Sequence[Any]) -> list[Any]:
    """What a caller's function makes of a batch's scores and targets, for each example; the scores without one.

    Args:
        function: of tensors (examples, ...), padded with -100, or tuples of them; None for no targets. Of what it gives
            an example has its own tokens, where it has as many as it was given.
    """
    if function is None or not scores:
        return list(scores)
    found = on_arrays(function, stacked(scores), stacked(targets))
    if isinstance(found, tuple):
        return list(zip(*found, strict=True))
    sizes = [0 if isinstance(one, tuple) or np.ndim(one) < 2 else len(one) for one in scores]
    whole = max(sizes) > 0 and found.ndim > 1 and found.shape[1] == max(sizes)
    return [row[:size] if whole else row for row, size in zip(found, sizes, strict=True)]


def on_arrays(function: Callable[..., Any], *given: Any) -> Any:
    """What a function of tensors, or tuples of them, gives, as arrays."""

    def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
        return tuple(map(change, value)) if isinstance(value, tuple) else None if value is None else change(value)

    return mapped(function(*(mapped(value, torch.as_tensor) for value in given)), lambda found: found.numpy())


def _share(
    objective: Objective, lengths: Sequence[int], arguments: TrainingArguments, world: World
) -> Iterator[tuple[list[int], bool]]:
    """This process's batches: alike lengths together where that changes nothing.

    A second one of another process does not count: all make as many passes where parameters are gathered for each.
    """
    if objective.splits:
        found = list(batches(list(lengths), arguments.max_tokens_per_pass or 1 << 62))
    else:
        size = arguments.per_device_eval_batch_size
        found = [list(range(i, min(i + size, len(lengths)))) for i in range(0, len(lengths), size)]
    mine = found[world.rank :: world.size]
    yield from ((numbers, True) for numbers in mine)
    if is_sharded(objective) and len(mine) * world.size < len(found):
        yield found[0], False


def stacked(values: Sequence[Any]) -> Any:
    """One array (examples, ...) of an array an example, padded with -100 where lengths differ; None of nothing."""
    if not len(values):
        return None
    if isinstance(values[0], tuple):
        return tuple(stacked([value[i] for value in values]) for i in range(len(values[0])))
    arrays = [np.asarray(value) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:
        return np.stack(arrays)
    longest = max(array.shape[0] for array in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), IGNORED, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
