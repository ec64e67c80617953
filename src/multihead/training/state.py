"""State of a training run except for the weights, and the requests of callbacks.

`trainer_state.json` in a checkpoint has the layout of the Trainer of Hugging Face Transformers, so either library reads
the other's file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..config import read_json, to_json, write_json
from ..errors import CorruptFile

STATE_FILE = "trainer_state.json"

E = TypeVar("E", bound="ExportableState")


class ExportableState:
    """Object whose state a checkpoint stores: `{"args": ..., "attributes": ...}`, both of plain JSON values.

    `args` are the arguments of the constructor, `attributes` the attributes that change later.
    """

    def state(self) -> dict[str, Any]:
        """Return the state; a subclass must define it."""
        raise NotImplementedError(f"{type(self).__name__}.state() must return a dict with 'args' and 'attributes'.")

    @classmethod
    def from_state(cls: type[E], state: Mapping[str, Any]) -> E:
        """Create an object from the result of `state()`."""
        instance = cls(**state.get("args", {}))
        for name, value in state.get("attributes", {}).items():
            setattr(instance, name, value)
        return instance


@dataclasses.dataclass
class TrainerControl(ExportableState):
    """Requests of callbacks to the training loop.

    Args:
        should_training_stop: end training after this step.
        should_epoch_stop: continue with the next epoch.
        should_save: write a checkpoint after this step.
        should_evaluate: evaluate after this step.
        should_log: report the numbers of the steps since the last report.
    """

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False

    def state(self) -> dict[str, Any]:
        return {"args": dataclasses.asdict(self), "attributes": {}}


@dataclasses.dataclass
class TrainerState:
    """Progress of training. A step is one update of the weights, from any number of batches.

    Args:
        epoch: finished epochs, as a fraction within the current epoch.
        max_steps, num_train_epochs: end of training.
        logging_steps, eval_steps, save_steps: numbers of steps, also if the arguments give a share of all steps.
        num_input_tokens_seen: number of training tokens.
        total_flos: floating-point operations of training.
        log_history: all logs, each entry with its `step`.
        best_metric, best_global_step, best_model_checkpoint: the best evaluation, its step and its folder.
        is_local_process_zero, is_world_process_zero: this process is the first on its machine, and of all processes.
        stateful_callbacks: state of each callback that has one, by class name.
    """

    epoch: float = 0.0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0.0
    log_history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    stateful_callbacks: dict[str, Any] = dataclasses.field(default_factory=dict)

    def compute_steps(self, args: Any, max_steps: int) -> None:
        """Set `logging_steps`, `eval_steps` and `save_steps` from `args`; a value below 1 is a share of `max_steps`."""
        for name in ("logging_steps", "eval_steps", "save_steps"):
            steps = getattr(args, name, None)
            if steps is not None:
                setattr(self, name, max(math.ceil(max_steps * steps), 1) if 0 < steps < 1 else int(steps))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; numpy and torch numbers become Python numbers."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def to_json(self) -> str:
        """Return the text of `trainer_state.json`."""
        return to_json(self.to_dict(), STATE_FILE)

    def save_to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load_from_json(cls, path: str | os.PathLike[str]) -> TrainerState:
        """Read the state from a file; unknown entries are ignored.

        Raises:
            ModelNotFound: there is no such file. CorruptFile: the file is no valid state.
        """
        entries = read_json(Path(path))
        defaults = cls()
        known = {f.name: entries[f.name] for f in dataclasses.fields(cls) if f.name in entries}
        state = dataclasses.replace(defaults, **{k: getattr(defaults, k) if v is None else v for k, v in known.items()})
        wrong = [k for k, v in known.items() if not _same_type(getattr(defaults, k), getattr(state, k))]
        wrong += [
            k for k in STEP_COUNTS if not isinstance(getattr(state, k), int) or not 0 <= getattr(state, k) < 2**53
        ]
        if not isinstance(state.best_model_checkpoint, str | None):
            wrong.append("best_model_checkpoint")
        if "global_step" not in known or wrong:
            what = f"{wrong[0]} is {json.dumps(known[wrong[0]])[:60]}" if wrong else "it has no global_step"
            raise CorruptFile(f"{path} is no state of a training run: {what}. Resume from another checkpoint.")
        return state


STEP_COUNTS = ("global_step", "max_steps")


@dataclasses.dataclass
class LossSums:
    """Sums of step losses, stored in checkpoints.

    Args:
        total, steps: sum and number over all steps. since, count: sum and number since the last log.
    """

    total: float = 0.0
    steps: int = 0
    since: float = 0.0
    count: int = 0

    def add(self, loss: float) -> None:
        """Add the loss of a step."""
        self.total, self.steps = self.total + loss, self.steps + 1
        self.since, self.count = self.since + loss, self.count + 1

    def take_mean(self) -> float:
        """Return the mean loss since the last call, and reset it."""
        mean = self.since / max(self.count, 1)
        self.since, self.count = 0.0, 0
        return mean

    @property
    def mean(self) -> float:
        """Mean loss of all steps."""
        return self.total / max(self.steps, 1)

    @classmethod
    def read(cls, entries: Any) -> LossSums:
        """Read the sums of a checkpoint; zeros for invalid entries and checkpoints of earlier versions."""
        if not isinstance(entries, Mapping) or set(entries) != {field.name for field in dataclasses.fields(cls)}:
            return cls()
        return cls(**entries) if all(_same_type(0.0, value) for value in entries.values()) else cls()


def _same_type(default: Any, value: Any) -> bool:
    """Return whether a value has the type of its default; a default of None admits any type."""
    if isinstance(default, bool) or isinstance(value, bool):
        return type(default) is type(value)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float))
    return default is None or isinstance(value, type(default))


def plain(value: Any) -> Any:
    """Convert numpy and torch numbers to Python numbers, also within lists and dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
