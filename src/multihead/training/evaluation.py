"""What a model says of a data set: losses, scores and metrics, over unpadded batches of alike lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ..losses import IGNORED
from ..texts import batches
from .arguments import TrainingArguments
from .objectives import Objective
from .passes import Example
from .sharding import gathered_no_more, is_sharded
from .steps import precision
from .world import World


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
    """

    loss: float
    count: float
    scores: list[Any] = field(default_factory=list)
    targets: list[Any] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        return self.loss / max(self.count, 1)


@torch.no_grad()
def see(
    objective: Objective,
    features: Sequence[Example],
    lengths: Any,
    arguments: TrainingArguments,
    world: World,
    *,
    predict: bool,
    each: Callable[[], None] = lambda: None,
) -> Seen:
    """Runs a model over a data set; every process reads its share and gets the whole.

    Args:
        predict: keeps scores. each: is called after each batch.
    """
    objective.eval()
    began = time.perf_counter()
    loss = torch.zeros(2, dtype=torch.float64)
    scores: dict[int, Any] = {}
    targets: dict[int, Any] = {}
    for numbers, counts in _share(objective, lengths, arguments, world):
        examples = [objective.ready(features[n], (arguments.seed, 0, n)) for n in numbers]
        batch = objective.collate(examples)
        with precision(arguments, objective.device, evaluation=True):
            part, found = objective(batch, predict)
        if not counts:
            continue
        labeled = objective.labeled(batch)
        loss += torch.tensor([float(part), objective.count(batch) if labeled else 0], dtype=torch.float64)
        if predict:
            scores.update(zip(numbers, found or [], strict=False))
            targets.update(zip(numbers, objective.targets(batch) if labeled else [], strict=False))
        each()
    gathered_no_more(objective)
    total, count = world.total(loss.to(objective.device)).tolist()
    if predict and world.size > 1:
        gathered: list[Any] = world.gathered((scores, targets))
        for other_scores, other_targets in gathered:
            scores.update(other_scores)
            targets.update(other_targets)
    said, wanted = (  # a model that gives no scores has none for any example
        [store[n] for n in range(len(features)) if n in store] for store in (scores, targets)
    )
    return Seen(total, count, said, wanted, seconds=time.perf_counter() - began)


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
