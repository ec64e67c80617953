"""Training is told of: lines, a display that cleans up after itself, TensorBoard's files, wandb's runs."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from multihead.errors import UnsupportedOption
from multihead.training.reporting import loggers as reporting
from multihead.training.reporting import progress_bar as progress
from multihead.training.reporting.loggers import TensorBoardCallback, WandbCallback, create_loggers
from multihead.training.reporting.progress_bar import ProgressCallback, duration, number
from multihead.training.state import TrainerControl, TrainerState

CONTROL = TrainerControl()
LOGS = {"loss": 0.532, "grad_norm": 1.5, "learning_rate": 4.8e-05, "epoch": 0.12, "tokens_per_second": 3912.4}


def shower(terminal: bool, width: int = 160) -> tuple[ProgressCallback, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None, legacy_windows=False)
    return ProgressCallback(console), file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now.value)
    return now


def test_without_a_terminal_each_log_is_one_line(clock):
    show, file = shower(False, width=40)
    state = TrainerState(max_steps=1300)
    show.on_train_begin(SimpleNamespace(), state, CONTROL)
    clock.value += 10.4
    state.global_step, state.epoch = 50, 0.12
    show.on_step_end(SimpleNamespace(), state, CONTROL)
    show.on_log(SimpleNamespace(), state, CONTROL, logs=LOGS)
    said = "step 50/1,300  epoch 0.12  loss 0.532  lr 4.8e-05  3,912 tokens/s  left 4 min 20 s\n"
    assert file.getvalue() == said


def test_an_evaluation_is_one_line_too():
    show, file = shower(False)
    state = TrainerState(max_steps=10, global_step=5, epoch=1.0)
    logs = {
        "eval_loss": 0.25,
        "eval_accuracy": 0.9,
        "eval_runtime": 61.2,
        "eval_samples_per_second": 12.5,
        "epoch": 1.0,
    }
    show.on_prediction_step(SimpleNamespace(), state, CONTROL, eval_dataloader=[1, 2])
    show.on_log(SimpleNamespace(), state, CONTROL, logs=logs)
    show.on_evaluate(SimpleNamespace(), state, CONTROL, metrics=logs)
    said = "step 5/10  epoch 1.00  eval_loss 0.25  eval_accuracy 0.9  eval_runtime 1 min 1 s\n"
    assert file.getvalue() == said


def test_time_left_counts_from_where_training_was_gone_on_with(clock):
    show, file = shower(False)
    state = TrainerState(max_steps=100, global_step=90)
    show.on_train_begin(SimpleNamespace(), state, CONTROL)
    clock.value += 10
    state.global_step = 95
    show.on_log(SimpleNamespace(), state, CONTROL, logs={"loss": 1.0})
    assert file.getvalue().endswith("left 10 s\n")


def test_a_terminal_shows_the_present_step_and_keeps_evaluations():
    show, file = shower(True)
    args, state = SimpleNamespace(disable_tqdm=False), TrainerState(max_steps=20)
    show.on_train_begin(args, state, CONTROL)
    state.global_step, state.epoch = 5, 0.5
    show.on_step_end(args, state, CONTROL)
    show.on_log(args, state, CONTROL, logs=LOGS)
    show.on_prediction_step(args, state, CONTROL, eval_dataloader=[1, 2])
    show.progress.refresh()
    show.on_log(args, state, CONTROL, logs={"eval_loss": 0.25})
    show.on_evaluate(args, state, CONTROL, metrics={})
    show.on_train_end(args, state, CONTROL)
    text = file.getvalue()
    for part in ("training", " 5/20", "epoch 0.50", "loss 0.532", "lr 4.8e-05", "evaluation", "1/2", "eval_loss 0.25"):
        assert part in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and comes back


def test_a_display_is_taken_down_after_an_error_and_after_an_evaluation_alone():
    for event in ("training", "evaluation"):
        show, file = shower(True)
        if event == "training":
            show.on_train_begin(SimpleNamespace(), TrainerState(max_steps=5), CONTROL)
            show.close()
        else:
            show.on_prediction_step(SimpleNamespace(), TrainerState(), CONTROL, eval_dataloader=iter([1]))
            show.on_evaluate(SimpleNamespace(), TrainerState(), CONTROL)
        assert file.getvalue().count("\x1b[?25h") == 1


def test_a_terminal_gets_lines_where_no_display_is_wanted():
    show, file = shower(True)
    args = SimpleNamespace(disable_tqdm=True)
    show.on_train_begin(args, TrainerState(max_steps=5), CONTROL)
    show.on_log(args, TrainerState(max_steps=5, global_step=1), CONTROL, logs=LOGS)
    assert file.getvalue().startswith("step 1/5  loss 0.532")
    assert "\x1b" not in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.6, "1 min"), (260, "4 min 20 s"), (3600, "1 h"), (7384, "2 h 3 min"), (90061, "1 d 1 h")],
)
def test_durations_are_said_in_two_units(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.53219, "0.5322"), (4.8e-5, "4.8e-05"), (1300, "1,300"), (0.0, "0"), (float("nan"), "nan"),
                        (1234.5678, "1,235"), ("text", "text"), (True, "True"), (1e12, "1e+12")],
)  # fmt: skip
def test_numbers_are_said_in_few_characters(value, said):
    assert number(value) == said


def other_process() -> TrainerState:
    return TrainerState(max_steps=5, global_step=1, is_world_process_zero=False)


def test_other_processes_say_nothing(tmp_path):
    show, file = shower(True)
    board = TensorBoardCallback()
    args = SimpleNamespace(logging_dir=str(tmp_path / "logs"))
    for callback in (show, board):
        callback.on_train_begin(args, other_process(), CONTROL)
        callback.on_step_end(args, other_process(), CONTROL)
        callback.on_prediction_step(args, other_process(), CONTROL, eval_dataloader=[1])
        callback.on_log(args, other_process(), CONTROL, logs=LOGS)
        callback.on_train_end(args, other_process(), CONTROL)
    assert file.getvalue() == ""
    assert not (tmp_path / "logs").exists()


def test_tensorboard_holds_what_was_logged_by_group_and_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    args = SimpleNamespace(logging_dir=str(tmp_path / "logs"), to_json_string=lambda: "{}")
    (callback,) = create_loggers("tensorboard")
    state = TrainerState(global_step=3)
    callback.on_train_begin(args, state, CONTROL, model=None)
    callback.on_log(args, state, CONTROL, logs={"loss": 0.5, "epoch": 1, "note": "text", "list": [1]})
    state.global_step = 4
    callback.on_log(args, state, CONTROL, logs={"eval_accuracy": 0.75, "train_loss": 0.25})
    callback.on_train_end(args, state, CONTROL)
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/epoch", "eval/accuracy", "train/train_loss"}
    assert [(e.step, e.value) for e in events.Scalars("eval/accuracy")] == [(4, 0.75)]


def test_tensorboard_writes_into_the_output_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    callback = TensorBoardCallback()
    callback.on_log(SimpleNamespace(output_dir=str(tmp_path), logging_dir=None), TrainerState(), CONTROL, logs=LOGS)
    callback.close()
    assert len(list((tmp_path / "runs").glob("*/events*"))) == 1


class Wandb(SimpleNamespace):
    def __init__(self) -> None:
        super().__init__(run=None, begun=[], logged=[], define_metric=lambda *args, **kwargs: None)

    def init(self, **given: Any) -> None:
        self.run = object()
        self.begun.append(given)

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)


def test_wandb_gets_one_run_with_settings_and_logs(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    args = SimpleNamespace(run_name="mine", to_dict=lambda: {"seed": 1})
    model = SimpleNamespace(config=SimpleNamespace(to_dict=lambda: {"hidden_size": 8, "seed": 2}))
    (callback,) = create_loggers(["wandb"])
    callback.on_train_begin(args, TrainerState(), CONTROL, model=model)
    callback.on_log(args, TrainerState(global_step=2), CONTROL, logs={"eval_loss": 0.5}, model=model)
    callback.on_log(args, other_process(), CONTROL, logs={"eval_loss": 0.5}, model=model)
    assert wandb.begun == [{"project": "multihead", "name": "mine", "config": {"hidden_size": 8, "seed": 1}}]
    assert wandb.logged == [{"eval/loss": 0.5, "train/global_step": 2}]


@pytest.mark.parametrize("report_to", [None, "none", ["none"], []])
def test_nothing_is_reported_unless_asked_for(report_to):
    assert create_loggers(report_to) == []


def test_all_means_what_is_installed(monkeypatch):
    monkeypatch.setattr(reporting, "find_spec", lambda name: name == "tensorboard" or None)
    assert [type(callback) for callback in create_loggers("all")] == [TensorBoardCallback]


def test_names_may_be_several_and_repeat(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Wandb())
    assert [type(c) for c in create_loggers(["wandb", "tensorboard", "wandb"])] == [WandbCallback, TensorBoardCallback]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UnsupportedOption, match="Did you mean 'tensorboard'"):
        create_loggers(["tensorbord"])


@pytest.mark.parametrize(
    ("name", "advice"), [("wandb", "pip install wandb"), ("tensorboard", r'pip install "multihead\[train\]"')]
)
def test_a_reporter_that_is_not_installed_is_an_error_with_advice(monkeypatch, name, advice):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedOption, match=advice):
        create_loggers(name)
