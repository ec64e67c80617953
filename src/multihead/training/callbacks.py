"""What listens to a training run and may steer it: the events, their order, when to log, evaluate, save and stop.

Events, their names and what they are given are those of Hugging Face Transformers, so a callback written for its
Trainer needs only another import.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from ..errors import InvalidInput, UnsupportedOption, warn
from .state import ExportableState, TrainerControl, TrainerState

Event = Literal[
    "on_init_end", "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_step_begin",
    "on_pre_optimizer_step", "on_optimizer_step", "on_substep_end", "on_step_end", "on_evaluate", "on_predict",
    "on_save", "on_log", "on_prediction_step", "on_push_begin",
]  # fmt: skip
EVENTS: tuple[Event, ...] = get_args(Event)
WITH_GRADIENTS: tuple[Event, ...] = ("on_substep_end", "on_pre_optimizer_step", "on_optimizer_step")

ANSWERED: dict[Event, tuple[str, ...]] = {  # what is no longer asked for once an event is there
    "on_train_begin": ("should_training_stop",),
    "on_epoch_begin": ("should_epoch_stop",),
    "on_step_begin": ("should_log", "should_evaluate", "should_save"),
    "on_evaluate": ("should_evaluate",),
    "on_save": ("should_save",),
    "on_log": ("should_log",),
}

Answer = TrainerControl | None


class TrainerCallback:
    """Base of what listens to training; every event does nothing until a subclass says otherwise.

    An event gets `args` (the TrainingArguments), `state` (TrainerState) and `control` (TrainerControl), and by name
    `model`, `processing_class`, `optimizer`, `lr_scheduler`, `train_dataloader` and `eval_dataloader`. `on_log` gets
    `logs`, `on_evaluate` and `on_predict` get `metrics`. It changes `control` in place, or returns another. Gradients
    are there at `on_substep_end`, `on_pre_optimizer_step` and `on_optimizer_step`.
    """

    def on_init_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """The Trainer is set up."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Training begins, or goes on from a checkpoint."""

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Training came to its end."""

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """A pass over the data begins."""

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """A pass over the data is done."""

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Before the first batch of a step."""

    def on_substep_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """After a batch whose gradients are kept for a later batch of the same step."""

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Gradients are clipped, weights not yet changed."""

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Weights are changed, gradients not yet cleared."""

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """A step is done and counted."""

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """`metrics` of an evaluation are there; `state.best_metric` is still that of the evaluations before."""

    def on_predict(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Predictions and their `metrics` are there."""

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """A checkpoint is written."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """`logs` are there to be reported."""

    def on_prediction_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """A batch of an evaluation is read."""

    def on_push_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Answer:
        """Before the model goes to the Hub."""

    def close(self) -> None:
        """Lets go of what this holds (a display, a file), however training ended."""


class Callbacks:
    """Calls callbacks in the order in which they were added.

    Args:
        callbacks: instances, or classes that need no arguments.
        shared: what every event gets by name (`model`, `optimizer`, ...); `share` adds to it later.
    """

    def __init__(self, callbacks: Iterable[Any] = (), **shared: Any) -> None:
        self.callbacks: list[Any] = []
        self.shared: dict[str, Any] = dict.fromkeys(
            ("model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader", "eval_dataloader")
        )
        self.share(**shared)
        for callback in callbacks:
            self.add(callback)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.callbacks)

    def share(self, **values: Any) -> None:
        """Changes what every event gets by name."""
        self.shared.update(values)

    def add(self, callback: Any) -> None:
        """Adds an instance, or makes one of a class.

        Raises:
            InvalidInput: it listens to no event.
        """
        callback = callback() if isinstance(callback, type) else callback
        if not any(callable(getattr(callback, event, None)) for event in EVENTS):
            raise InvalidInput(
                f"{callback!r} was given as a callback and listens to no event. Subclass TrainerCallback and write "
                f"one of {', '.join(EVENTS)}."
            )
        if any(type(other) is type(callback) for other in self.callbacks):
            warn(f"{type(callback).__name__} is added a second time; both are called.")
        self.callbacks.append(callback)

    def pop(self, callback: Any) -> Any:
        """Takes out an instance, or the first of a class, and returns it; None where there is none."""
        for index, other in enumerate(self.callbacks):
            if isinstance(other, callback) if isinstance(callback, type) else other == callback:
                return self.callbacks.pop(index)
        return None

    def remove(self, callback: Any) -> None:
        """Takes out an instance, or the first of a class, where there is one."""
        self.pop(callback)

    def hear(self, *events: Event) -> bool:
        """Whether a callback does something at one of these events; the base, ours or the reference's, does not."""
        kinds = [kind for callback in self.callbacks for kind in type(callback).__mro__]
        return any(event in vars(kind) for kind in kinds if kind.__name__ != "TrainerCallback" for event in events)

    def call(
        self, event: Event, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Tells every callback of an event; the control that one returns is what the next gets, and the result."""
        for name in ANSWERED.get(event, ()):
            setattr(control, name, False)
        for callback in tuple(self.callbacks):
            if listens := getattr(callback, event, None):
                control = listens(args, state, control, **{**self.shared, **kwargs}) or control
        return control

    def close(self) -> None:
        """Lets every callback let go of what it holds; for a `finally` around training."""
        for callback in self.callbacks:
            if callable(close := getattr(callback, "close", None)):
                close()

    def states(self) -> dict[str, Any]:
        """The state of each callback that has one, by class; a list where a class is there more than once."""
        found: dict[str, list[Any]] = {}
        for callback in self.callbacks:
            if isinstance(callback, ExportableState):
                found.setdefault(type(callback).__name__, []).append(callback.state())
        return {name: states[0] if len(states) == 1 else states for name, states in found.items()}

    def restore(self, states: Mapping[str, Any]) -> list[str]:
        """Gives callbacks back what they had counted; their settings stay those that they were made with.

        Returns:
            Names of classes that have a state and are not among these callbacks.
        """
        left = {name: list(kept) if isinstance(kept, list) else [kept] for name, kept in states.items()}
        found = set()
        for callback in self.callbacks:
            name = type(callback).__name__
            if isinstance(callback, ExportableState) and left.get(name):
                found.add(name)
                for key, value in left[name].pop(0).get("attributes", {}).items():
                    setattr(callback, key, value)
        return [name for name in states if name not in found and name != TrainerControl.__name__]


def watched(args: Any, metrics: Mapping[str, Any]) -> float | None:
    """The number by which evaluations are compared, `args.metric_for_best_model`; None where `metrics` lack it."""
    name = args.metric_for_best_model
    value = None if name is None else metrics.get(name if name.startswith("eval_") else f"eval_{name}")
    return None if value is None else float(value)


def better(args: Any, value: float | None, best: float | None, threshold: float = 0.0) -> bool:
    """Whether `value` beats `best` by more than `threshold`, the way `args.greater_is_better` says; NaN never does."""
    if value is None or math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return (value - best if args.greater_is_better else best - value) > threshold


class DefaultFlowCallback(TrainerCallback):
    """Decides from `args` when to log, evaluate and save: `"no"`, `"steps"` or `"epoch"`; to save, `"best"` as well.

    Training by steps ends with an evaluation and a checkpoint, whatever the number of the last step.
    """

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        step, last = state.global_step, state.global_step >= state.max_steps
        control.should_log |= step == 1 and args.logging_first_step
        control.should_log |= args.logging_strategy == "steps" and _due(step, state.logging_steps)
        if args.eval_strategy == "steps" and getattr(args, "eval_delay", 0) <= step:
            control.should_evaluate |= last or _due(step, state.eval_steps)
        if args.save_strategy == "steps":
            control.should_save |= last or _due(step, state.save_steps)
        control.should_training_stop |= last
        return control

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        control.should_log |= args.logging_strategy == "epoch"
        control.should_evaluate |= args.eval_strategy == "epoch" and getattr(args, "eval_delay", 0) <= state.epoch
        control.should_save |= args.save_strategy == "epoch"
        return control

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl:
        if args.save_strategy == "best":
            control.should_save |= better(args, watched(args, metrics or {}), state.best_metric)
        return control


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Ends training when evaluations have stopped to improve `args.metric_for_best_model`.

    Args:
        early_stopping_patience: evaluations in a row without an improvement after which training ends.
        early_stopping_threshold: by how much the best must be beaten; what is not more than that is no improvement.

    An evaluation whose metrics lack the metric (of another data set, say) is not counted.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        if early_stopping_patience < 1:
            raise InvalidInput(
                f"early_stopping_patience is {early_stopping_patience}; it counts evaluations, so 1 is the least."
            )
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold
        self.early_stopping_patience_counter = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raises UnsupportedOption where nothing could ever be compared."""
        if args.metric_for_best_model is None:
            raise UnsupportedOption(
                "EarlyStoppingCallback compares evaluations, and metric_for_best_model is not given. Pass "
                'metric_for_best_model="loss", or a name that compute_metrics returns.'
            )
        if args.eval_strategy == "no":
            raise UnsupportedOption(
                'EarlyStoppingCallback needs evaluations while training, and eval_strategy is "no". Pass '
                'eval_strategy="steps" or "epoch".'
            )

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        value = watched(args, metrics or {})
        if value is None:
            return
        improved = better(args, value, state.best_metric, self.early_stopping_threshold or 0.0)
        self.early_stopping_patience_counter = 0 if improved else self.early_stopping_patience_counter + 1
        control.should_training_stop |= self.early_stopping_patience_counter >= self.early_stopping_patience

    def state(self) -> dict[str, Any]:
        return {
            "args": {
                "early_stopping_patience": self.early_stopping_patience,
                "early_stopping_threshold": self.early_stopping_threshold,
            },
            "attributes": {"early_stopping_patience_counter": self.early_stopping_patience_counter},
        }
