"""Callbacks of a training run, including those that decide when to log, evaluate, save and stop.

Events, their names and arguments equal those of Hugging Face Transformers, so a callback for its Trainer needs only
another import.
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
GRADIENT_EVENTS: tuple[Event, ...] = ("on_substep_end", "on_pre_optimizer_step", "on_optimizer_step")

CLEARED_FLAGS: dict[Event, tuple[str, ...]] = {  # flags of the control that an event resets
    "on_train_begin": ("should_training_stop",),
    "on_epoch_begin": ("should_epoch_stop",),
    "on_step_begin": ("should_log", "should_evaluate", "should_save"),
    "on_evaluate": ("should_evaluate",),
    "on_save": ("should_save",),
    "on_log": ("should_log",),
}

Result = TrainerControl | None


class TrainerCallback:
    """Base of callbacks; every event does nothing by default.

    An event gets `args` (the TrainingArguments), `state` (TrainerState) and `control` (TrainerControl), and by name
    `model`, `processing_class`, `optimizer`, `lr_scheduler`, `train_dataloader` and `eval_dataloader`. `on_log` gets
    `logs` too, `on_evaluate` and `on_predict` get `metrics`. An event changes `control` in place, or returns another
    one. Gradients exist at `on_substep_end`, `on_pre_optimizer_step` and `on_optimizer_step`.
    """

    def on_init_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run at the end of the Trainer's constructor."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run before the first step, also of a resumed run."""

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run at the end of training."""

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run at the beginning of an epoch."""

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run at the end of an epoch."""

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run before the first batch of a step."""

    def on_substep_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after each batch of a step but the last, with accumulated gradients."""

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after gradient clipping, before the optimizer step."""

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after the optimizer step, before the gradients are cleared."""

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run at the end of a step, after `state.global_step` is increased."""

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after an evaluation with its `metrics`; `state.best_metric` is that of the evaluations before."""

    def on_predict(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after a prediction with its `metrics`."""

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after a checkpoint was written."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run when `logs` are reported."""

    def on_prediction_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run after a batch of an evaluation."""

    def on_push_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Result:
        """Run before an upload to the Hub; never called here."""

    def close(self) -> None:
        """Release resources (a display, a file), however training ended."""


class Callbacks:
    """List of callbacks, called in the order in which they were added.

    Args:
        callbacks: instances, or classes that need no arguments.
        shared: keyword arguments of every event (`model`, `optimizer`, ...); `share` adds more.
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
        """Update the keyword arguments of every event."""
        self.shared.update(values)

    def add(self, callback: Any) -> None:
        """Add an instance, or create one of a class.

        Raises:
            InvalidInput: the object handles no event.
        """
        callback = callback() if isinstance(callback, type) else callback
        if not any(callable(getattr(callback, event, None)) for event in EVENTS):
            raise InvalidInput(
                f"{callback!r} was given as a callback and handles no event. Subclass TrainerCallback and write "
                f"one of {', '.join(EVENTS)}."
            )
        if any(type(other) is type(callback) for other in self.callbacks):
            warn(f"{type(callback).__name__} was added a second time; both are called.")
        self.callbacks.append(callback)

    def pop(self, callback: Any) -> Any:
        """Remove an instance, or the first instance of a class, and return it; None if there is none."""
        for index, other in enumerate(self.callbacks):
            if isinstance(other, callback) if isinstance(callback, type) else other == callback:
                return self.callbacks.pop(index)
        return None

    def remove(self, callback: Any) -> None:
        """Remove an instance, or the first instance of a class, if there is one."""
        self.pop(callback)

    def handles(self, *events: Event) -> bool:
        """Return whether a callback overrides one of these events of a base class named TrainerCallback."""
        kinds = [kind for callback in self.callbacks for kind in type(callback).__mro__]
        return any(event in vars(kind) for kind in kinds if kind.__name__ != "TrainerCallback" for event in events)

    def call(
        self, event: Event, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Call an event of every callback; a control that one returns is passed to the next, and returned."""
        for name in CLEARED_FLAGS.get(event, ()):
            setattr(control, name, False)
        for callback in tuple(self.callbacks):
            if handler := getattr(callback, event, None):
                control = handler(args, state, control, **{**self.shared, **kwargs}) or control
        return control

    def close(self) -> None:
        """Call `close` of every callback, in a `finally` around training."""
        for callback in self.callbacks:
            if callable(close := getattr(callback, "close", None)):
                close()

    def states(self) -> dict[str, Any]:
        """Return the state of each callback that has one, by class name; a list for several callbacks of a class."""
        states: dict[str, list[Any]] = {}
        for callback in self.callbacks:
            if isinstance(callback, ExportableState):
                states.setdefault(type(callback).__name__, []).append(callback.state())
        return {name: each[0] if len(each) == 1 else each for name, each in states.items()}

    def restore(self, states: Mapping[str, Any]) -> list[str]:
        """Restore the attributes of callbacks; their constructor arguments stay.

        Returns:
            Names of classes with a stored state that are not among these callbacks.
        """
        pending = {name: list(state) if isinstance(state, list) else [state] for name, state in states.items()}
        restored = set()
        for callback in self.callbacks:
            name = type(callback).__name__
            if isinstance(callback, ExportableState) and pending.get(name):
                restored.add(name)
                for key, value in pending[name].pop(0).get("attributes", {}).items():
                    setattr(callback, key, value)
        return [name for name in states if name not in restored and name != TrainerControl.__name__]


def metric_value(args: Any, metrics: Mapping[str, Any]) -> float | None:
    """Return the metric `args.metric_for_best_model`; None if `metrics` lack it."""
    name = args.metric_for_best_model
    value = None if name is None else metrics.get(name if name.startswith("eval_") else f"eval_{name}")
    return None if value is None else float(value)


def is_better(args: Any, value: float | None, best: float | None, threshold: float = 0.0) -> bool:
    """Return whether `value` improves on `best` by more than `threshold`; False for NaN."""
    if value is None or math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return (value - best if args.greater_is_better else best - value) > threshold


class DefaultFlowCallback(TrainerCallback):
    """Sets the control flags by the strategies in `args`: `"no"`, `"steps"` or `"epoch"`; to save also `"best"`.

    With the strategy `"steps"` the last step is evaluated and saved too.
    """

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        step, last = state.global_step, state.global_step >= state.max_steps
        control.should_log |= step == 1 and args.logging_first_step
        control.should_log |= args.logging_strategy == "steps" and _is_due(step, state.logging_steps)
        if args.eval_strategy == "steps" and getattr(args, "eval_delay", 0) <= step:
            control.should_evaluate |= last or _is_due(step, state.eval_steps)
        if args.save_strategy == "steps":
            control.should_save |= last or _is_due(step, state.save_steps)
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
            control.should_save |= is_better(args, metric_value(args, metrics or {}), state.best_metric)
        return control


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Ends training when `args.metric_for_best_model` no longer improves.

    Evaluations without the metric, such as those of another data set, are not counted.

    Args:
        early_stopping_patience: number of evaluations in a row without an improvement after which training ends.
        early_stopping_threshold: smallest improvement that counts, exclusive.
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
        """Raise UnsupportedOption if there is no metric or no evaluation to compare."""
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
        value = metric_value(args, metrics or {})
        if value is None:
            return
        improved = is_better(args, value, state.best_metric, self.early_stopping_threshold or 0.0)
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
