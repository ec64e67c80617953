"""Callbacks are called in order, steer training as the reference's do, and remember across checkpoints."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import trainer_callback as reference

from multihead.errors import CorruptFile, InvalidInput, ModelNotFound, UnsupportedOption
from multihead.training import callbacks as ours
from multihead.training.callbacks import (
    EVENTS,
    Callbacks,
    DefaultFlowCallback,
    EarlyStoppingCallback,
    TrainerCallback,
    is_better,
)
from multihead.training.state import ExportableState, TrainerControl, TrainerState

ASKED = ("should_log", "should_evaluate", "should_save", "should_training_stop")


def arguments(**changes: Any) -> Any:
    usual = SimpleNamespace(
        logging_strategy="steps", logging_steps=5, logging_first_step=False, eval_strategy="no", eval_steps=5,
        eval_delay=0, save_strategy="no", save_steps=5, metric_for_best_model="loss", greater_is_better=False,
        load_best_model_at_end=True,
    )  # fmt: skip
    return SimpleNamespace(**{**vars(usual), **changes})


class Noted(TrainerCallback):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def on_step_end(self, args, state, control, **kwargs):
        self.notes.append(self.name)


def test_callbacks_are_called_in_the_order_they_were_added():
    notes: list[str] = []
    callbacks = Callbacks([Noted("first", notes)])
    with pytest.warns(UserWarning, match="Noted was added a second time"):
        callbacks.add(Noted("second", notes))
    callbacks.call("on_step_end", None, TrainerState(), TrainerControl())
    assert notes == ["first", "second"]


def test_a_returned_control_is_what_the_next_callback_and_the_caller_get():
    other = TrainerControl(should_training_stop=True)
    seen = []

    class Replaces(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            return other

    class Looks(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen.append(control)

    result = Callbacks([Replaces, Looks]).call("on_step_end", None, TrainerState(), TrainerControl())
    assert result is other
    assert seen == [other]


def test_events_get_what_is_shared_and_what_belongs_to_them():
    seen: dict[str, Any] = {}

    class Looks(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.update(kwargs, logs=logs)

    callbacks = Callbacks([Looks()], model="model")
    callbacks.share(optimizer="optimizer")
    callbacks.call("on_log", None, TrainerState(), TrainerControl(), logs={"loss": 1.0})
    assert (seen["model"], seen["optimizer"], seen["logs"]) == ("model", "optimizer", {"loss": 1.0})
    assert seen["eval_dataloader"] is None


def test_every_event_of_the_reference_is_there():
    theirs = {name for name in vars(reference.TrainerCallback) if name.startswith("on_")}
    assert set(EVENTS) == theirs
    assert all(hasattr(TrainerCallback, event) for event in EVENTS)


def test_a_callback_written_for_the_reference_is_called_as_it_is():
    class Theirs(reference.TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            control.should_save = True

    control = Callbacks([Theirs]).call("on_epoch_end", None, TrainerState(), TrainerControl())
    assert control.should_save


@pytest.mark.parametrize(
    ("event", "names"),
    [
        ("on_step_begin", {"should_log", "should_evaluate", "should_save"}),
        ("on_train_begin", {"should_training_stop"}),
        ("on_epoch_begin", {"should_epoch_stop"}),
        ("on_log", {"should_log"}),
        ("on_evaluate", {"should_evaluate"}),
        ("on_save", {"should_save"}),
        ("on_step_end", set()),
    ],
)
def test_an_event_clears_what_asked_for_it(event, names):
    every = ("should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log")
    control = Callbacks().call(event, None, TrainerState(), TrainerControl(**dict.fromkeys(every, True)))
    assert {name for name in every if not getattr(control, name)} == names


def test_callbacks_are_taken_out_by_class_or_instance():
    early, flow = EarlyStoppingCallback(), DefaultFlowCallback()
    callbacks = Callbacks([early, flow])
    assert callbacks.pop(EarlyStoppingCallback) is early
    callbacks.remove(flow)
    assert list(callbacks) == []
    assert callbacks.pop(EarlyStoppingCallback) is None


def test_what_listens_to_nothing_is_refused():
    with pytest.raises(InvalidInput, match="handles no event"):
        Callbacks([object()])


def test_close_lets_every_callback_let_go():
    closed = []

    class Holds(TrainerCallback):
        def close(self):
            closed.append(True)

    Callbacks([Holds(), DefaultFlowCallback()]).close()
    assert closed == [True]


def flow(callback: Any, kinds: Any, args: Any, steps: int = 23, an_epoch: int = 10) -> list[tuple[bool, ...]]:
    """What is asked for after each step and each epoch of a run."""
    state, rows = kinds[0](), []
    state.max_steps = steps
    state.compute_steps(args, steps)
    for step in range(1, steps + 1):
        state.global_step, state.epoch = step, step / an_epoch
        control = kinds[1]()
        rows.append(tuple(getattr(callback.on_step_end(args, state, control), name) for name in ASKED))
        if step % an_epoch == 0:
            rows.append(tuple(getattr(callback.on_epoch_end(args, state, kinds[1]()), name) for name in ASKED))
    return rows


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"logging_first_step": True, "logging_steps": 0.25},
        {"eval_strategy": "steps", "eval_steps": 0.1, "eval_delay": 6},
        {"eval_strategy": "epoch", "eval_delay": 1.5, "save_strategy": "epoch", "logging_strategy": "epoch"},
        {"save_strategy": "steps", "save_steps": 7, "eval_strategy": "steps", "eval_steps": 23},
        {"save_strategy": "best", "eval_strategy": "steps", "logging_strategy": "no"},
    ],
)
def test_logs_evaluations_and_checkpoints_fall_on_the_steps_of_the_reference(changes):
    args = arguments(**changes)
    mine = flow(DefaultFlowCallback(), (TrainerState, TrainerControl), args)
    theirs = flow(reference.DefaultFlowCallback(), (reference.TrainerState, reference.TrainerControl), args)
    assert mine == theirs
    assert any(any(row) for row in mine)


@pytest.mark.parametrize(
    ("best", "loss", "saved"), [(None, 1.0, True), (1.0, 0.9, True), (1.0, 1.0, False), (1.0, math.nan, False)]
)
def test_the_best_evaluation_is_saved(best, loss, saved):
    control, state = TrainerControl(), TrainerState(best_metric=best)
    args = arguments(save_strategy="best")
    assert DefaultFlowCallback().on_evaluate(args, state, control, metrics={"eval_loss": loss}).should_save is saved


def test_better_follows_the_direction_of_the_metric():
    up, down = arguments(greater_is_better=True), arguments(greater_is_better=False)
    assert is_better(up, 2.0, 1.0)
    assert not is_better(down, 2.0, 1.0)
    assert not is_better(up, 1.05, 1.0, threshold=0.1)
    assert is_better(up, 1.0, math.nan)


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_early_stopping_stops_where_the_reference_does(threshold):
    losses = [1.0, 0.9, 0.88, 0.87, 0.95, 0.86, 0.9, 0.91, math.nan, 0.5]
    args = arguments(eval_strategy="steps")
    stops = []
    for module in (ours, reference):
        callback, state, control = module.EarlyStoppingCallback(3, threshold), TrainerState(), TrainerControl()
        read = 0
        while not control.should_training_stop:
            loss, read = losses[read], read + 1
            callback.on_evaluate(args, state, control, metrics={"eval_loss": loss})
            if state.best_metric is None or loss < state.best_metric:
                state.best_metric = loss
        stops.append((read, callback.early_stopping_patience_counter))
    assert stops[0] == stops[1]
    assert 3 < stops[0][0] < len(losses)


def test_early_stopping_without_a_metric_or_evaluations_is_an_error():
    callback, rest = EarlyStoppingCallback(), (TrainerState(), TrainerControl())
    with pytest.raises(UnsupportedOption, match="metric_for_best_model"):
        callback.on_train_begin(arguments(metric_for_best_model=None, eval_strategy="steps"), *rest)
    with pytest.raises(UnsupportedOption, match="eval_strategy"):
        callback.on_train_begin(arguments(), *rest)
    with pytest.raises(InvalidInput, match="patience is 0"):
        EarlyStoppingCallback(0)


def test_an_evaluation_without_the_metric_is_not_counted():
    callback, control = EarlyStoppingCallback(1), TrainerControl()
    callback.on_evaluate(arguments(), TrainerState(best_metric=0.1), control, metrics={"eval_other_loss": 1.0})
    assert not control.should_training_stop


def test_patience_goes_on_after_a_checkpoint_with_todays_settings():
    early = EarlyStoppingCallback(4, 0.5)
    early.early_stopping_patience_counter = 3
    states = json.loads(json.dumps(Callbacks([DefaultFlowCallback, early]).states()))
    later = EarlyStoppingCallback(6)
    assert Callbacks([later]).restore({**states, "Gone": {}, "TrainerControl": {}}) == ["Gone"]
    assert (later.early_stopping_patience, later.early_stopping_patience_counter) == (6, 3)
    again = EarlyStoppingCallback.from_state(states["EarlyStoppingCallback"])
    assert again.state() == early.state()


def test_states_of_two_callbacks_of_a_class_go_back_to_each():
    class Counts(TrainerCallback, ExportableState):
        def __init__(self, count=0):
            self.count = count

        def state(self):
            return {"args": {}, "attributes": {"count": self.count}}

    with pytest.warns(UserWarning, match="second time"):
        states = Callbacks([Counts(1), Counts(2)]).states()
    with pytest.warns(UserWarning, match="second time"):
        callbacks = Callbacks([Counts(), Counts()])
    assert callbacks.restore(states) == []
    assert [callback.count for callback in callbacks] == [1, 2]


def test_the_state_file_is_read_by_the_reference_and_theirs_by_us(tmp_path):
    mine = TrainerState(global_step=7, max_steps=9, best_metric=0.5, log_history=[{"loss": 1.5, "step": 5}])
    mine.save_to_json(tmp_path / "ours.json")
    theirs = reference.TrainerState.load_from_json(tmp_path / "ours.json")
    assert (theirs.global_step, theirs.best_metric, theirs.log_history) == (7, 0.5, [{"loss": 1.5, "step": 5}])
    theirs.trial_name, theirs.num_input_tokens_seen = "trial", 12
    theirs.save_to_json(tmp_path / "theirs.json")
    again = TrainerState.load_from_json(tmp_path / "theirs.json")
    mine.num_input_tokens_seen = 12
    assert again == mine


def test_the_state_file_holds_numbers_of_numpy_and_torch_and_those_without_a_sign(tmp_path):
    logs = [{"loss": np.float32(0.5), "grad_norm": torch.tensor(2.0), "eval_loss": math.inf}]
    TrainerState(log_history=logs, best_metric=np.float64(0.25)).save_to_json(tmp_path / "state.json")
    state = TrainerState.load_from_json(tmp_path / "state.json")
    assert state.log_history == [{"loss": 0.5, "grad_norm": 2.0, "eval_loss": math.inf}]
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]
    assert json.loads(state.to_json())["best_metric"] == 0.25


@pytest.mark.parametrize("text", ["{}", '{"global_step": "seven"}', '{"global_step": 1, "log_history": 3}', "[1]", "{"])
def test_a_file_that_is_no_state_is_refused(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"state\.json"):
        TrainerState.load_from_json(tmp_path / "state.json")


def test_a_missing_state_is_told_by_its_folder(tmp_path):
    with pytest.raises(ModelNotFound, match=tmp_path.name):
        TrainerState.load_from_json(tmp_path / "trainer_state.json")


@pytest.mark.parametrize(("asked", "steps"), [(0.25, 25), (0.001, 1), (1, 1), (40, 40)])
def test_a_share_of_steps_becomes_a_number_of_them(asked, steps):
    state = TrainerState()
    state.compute_steps(SimpleNamespace(logging_steps=asked, eval_steps=None, save_steps=asked), 100)
    assert (state.logging_steps, state.eval_steps, state.save_steps) == (steps, 500, steps)


def test_fields_have_the_references_names_and_defaults():
    theirs = transformers.TrainerState()
    for name, value in TrainerState().to_dict().items():
        assert getattr(theirs, name) == value, name
