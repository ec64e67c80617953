"""What a training run has done so far, and what it is asked to do next, apart from weights.

`trainer_state.json` in a checkpoint has the layout that the Trainer of Hugging Face Transformers writes, so either
library goes on from the other's file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..config import dumped, read_json, write_json
from ..errors import CorruptFile

STATE_FILE = "trainer_state.json"

E = TypeVar("E", bound="ExportableState")


class ExportableState:
    """What a checkpoint keeps of an object: `{"args": ..., "attributes": ...}`, both of plain JSON values.

    `args` are what its constructor takes, `attributes` what has changed since.
    """

    def state(self) -> dict[str, Any]:
        """What to keep; a class that is kept must say it."""
        raise NotImplementedError(f"{type(self).__name__}.state() must return a dict with 'args' and 'attributes'.")

    @classmethod
    def from_state(cls: type[E], state: Mapping[str, Any]) -> E:
        """A new object as it was when `state()` was called."""
        made = cls(**state.get("args", {}))
        for name, value in state.get("attributes", {}).items():
            setattr(made, name, value)
        return made


@dataclasses.dataclass
class TrainerControl(ExportableState):
    """What callbacks ask of the training loop.

    Args:
        should_training_stop: end training after this step.
        should_epoch_stop: go on with the next epoch.
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
    """How far training is. A step is an update of the weights, whatever number of batches went into it.

    Args:
        epoch: passes over the data, with the part of the present one after the point.
        max_steps, num_train_epochs: where training ends.
        logging_steps, eval_steps, save_steps: whole numbers of steps, also where a share of all steps was asked for.
        num_input_tokens_seen: tokens read in training, where they are counted.
        total_flos: floating-point operations of training.
        log_history: everything logged so far, each entry with its `step`.
        best_metric, best_global_step, best_model_checkpoint: the best evaluation so far, its step and its folder.
        is_local_process_zero, is_world_process_zero: whether this process speaks for its machine, and for all.
        stateful_callbacks: the state of each callback that has one, by the name of its class.
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
        """Takes `logging_steps`, `eval_steps` and `save_steps` of `args`; one below 1 is a share of `max_steps`."""
        for name in ("logging_steps", "eval_steps", "save_steps"):
            steps = getattr(args, name, None)
            if steps is not None:
                setattr(self, name, max(math.ceil(max_steps * steps), 1) if 0 < steps < 1 else int(steps))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; numbers of numpy and torch become Python's."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def to_json(self) -> str:
        """The text of `trainer_state.json`."""
        return dumped(self.to_dict(), STATE_FILE)

    def save_to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the file whole or not at all."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load_from_json(cls, path: str | os.PathLike[str]) -> TrainerState:
        """The state in a file. Entries of other libraries that mean nothing here are left out.

        Raises:
            ModelNotFound: there is no such file. CorruptFile: it is no state of a training run.
        """
        entries = read_json(Path(path))
        defaults = cls()
        known = {f.name: entries[f.name] for f in dataclasses.fields(cls) if f.name in entries}
        state = dataclasses.replace(defaults, **{k: getattr(defaults, k) if v is None else v for k, v in known.items()})
        wrong = [k for k, v in known.items() if not _alike(getattr(defaults, k), getattr(state, k))]
        wrong += [k for k in COUNTS if not isinstance(getattr(state, k), int) or not 0 <= getattr(state, k) < 2**53]
        if not isinstance(state.best_model_checkpoint, str | None):
            wrong.append("best_model_checkpoint")
        if "global_step" not in known or wrong:
            what = f"{wrong[0]} is {json.dumps(known[wrong[0]])[:60]}" if wrong else "it has no global_step"
            raise CorruptFile(f"{path} is no state of a training run: {what}. Go on from another checkpoint.")
        return state


COUNTS = ("global_step", "max_steps")


@dataclasses.dataclass
class Losses:
    """Sums of the losses of steps, which a run that goes on from a checkpoint goes on with.

    Args:
        total, steps: of all steps. since, count: of those since the last report.
    """

    total: float = 0.0
    steps: int = 0
    since: float = 0.0
    count: int = 0

    def add(self, loss: float) -> None:
        self.total, self.steps = self.total + loss, self.steps + 1
        self.since, self.count = self.since + loss, self.count + 1

    def reported(self) -> float:
        """The mean since the last report, which this is now."""
        mean = self.since / max(self.count, 1)
        self.since, self.count = 0.0, 0
        return mean

    @property
    def mean(self) -> float:
        """Of all steps."""
        return self.total / max(self.steps, 1)

    @classmethod
    def read(cls, entries: Any) -> Losses:
        """What a checkpoint says; none, where an earlier version wrote it or says what cannot be."""
        if not isinstance(entries, Mapping) or set(entries) != {field.name for field in dataclasses.fields(cls)}:
            return cls()
        return cls(**entries) if all(_alike(0.0, value) for value in entries.values()) else cls()


def _alike(default: Any, value: Any) -> bool:
    """Whether a value is of its default's kind; what is None by default is not checked."""
    if isinstance(default, bool) or isinstance(value, bool):
        return type(default) is type(value)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float))
    return default is None or isinstance(value, type(default))


def plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's, also within lists and dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
