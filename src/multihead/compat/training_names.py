"""Small helpers of training programs: the last checkpoint of a folder, speeds, plain numbers, a printing callback."""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..training.callbacks import TrainerCallback

PREFIX_CHECKPOINT_DIR = "checkpoint"


class EvalLoopOutput(NamedTuple):
    """Result of an evaluation: scores, labels, metrics and the number of rows."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None
    num_samples: int | None


class BestRun(NamedTuple):
    """The best run of a search."""

    run_id: str
    objective: float | list[float]
    hyperparameters: dict[str, Any]
    run_summary: Any = None


class PrinterCallback(TrainerCallback):
    """Prints the logs."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print the numbers of the first process."""
        numbers = {name: value for name, value in (logs or {}).items() if name != "total_flos"}
        if state.is_local_process_zero:
            sys.stdout.write(f"{numbers}\n")


def get_last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """Return the folder `checkpoint-N` of the highest step; None where there is none."""
    found = [
        (int(match[1]), path)
        for path in Path(folder).iterdir()
        if path.is_dir() and (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name))
    ]
    return str(max(found)[1]) if found else None


def default_compute_objective(metrics: Mapping[str, float]) -> float:
    """Return the evaluation's loss if it is the only metric, else the sum of the metrics."""
    others, speeds = ("eval_loss", "epoch"), ("_runtime", "_per_second")
    rest = {name: value for name, value in metrics.items() if name not in others and not name.endswith(speeds)}
    return sum(rest.values()) if rest else metrics["eval_loss"]


def speed_metrics(
    split: str, start_time: float, num_samples: int | None = None, num_steps: int | None = None, num_tokens: Any = None
) -> dict[str, float]:
    """Return the seconds since `start_time`, and rows, steps and tokens a second, by names that begin with a split."""
    runtime = time.time() - start_time
    found = {f"{split}_runtime": round(runtime, 4)}
    counts = (("samples", num_samples), ("steps", num_steps), ("tokens", num_tokens))
    if runtime:
        rates = {name: count / runtime for name, count in counts if count is not None}
        found |= {f"{split}_{name}_per_second": round(rate, 3) for name, rate in rates.items()}
    return found


def number_of_arguments(function: Callable[..., Any]) -> int:
    """Return how many arguments a function takes, but for those that are bound already."""
    return len(inspect.signature(function).parameters)


def has_length(dataset: Any) -> bool:
    """Return whether the number of rows is known."""
    try:
        return len(dataset) is not None
    except TypeError:
        return False


def denumpify_detensorize(metrics: Any) -> Any:
    """Return metrics with numpy's and torch's single numbers as Python's."""
    if isinstance(metrics, (list, tuple)):
        return type(metrics)(denumpify_detensorize(one) for one in metrics)
    if isinstance(metrics, dict):
        return {name: denumpify_detensorize(value) for name, value in metrics.items()}
    single = hasattr(metrics, "item") and getattr(metrics, "size", None) == 1
    if callable(getattr(metrics, "numel", None)):
        single = metrics.numel() == 1
    return metrics.item() if single else metrics


def is_main_process(local_rank: int) -> bool:
    """Return whether this is the first process of its machine."""
    return local_rank in (-1, 0)


def get_parameter_names(model: Any, forbidden_layer_types: list[type], forbidden_layer_names: Any = None) -> list[str]:
    """Return the names of the parameters that are in no module of these types and match none of these patterns."""
    patterns = [re.compile(pattern) for pattern in forbidden_layer_names or []]
    found: list[str] = []
    forbidden: list[str] = []
    for path, module in model.named_modules():
        if path and isinstance(module, tuple(forbidden_layer_types)):
            forbidden.append(f"{path}.")
        if not f"{path}.".startswith(tuple(forbidden)):
            found += [f"{path}.{leaf}" if path else leaf for leaf, p in module._parameters.items() if p is not None]
    return [name for name in found if not any(pattern.search(name.lower()) for pattern in patterns)]
