"""Progress of training: a live display on a terminal, otherwise one line a log."""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping, Sized
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from ...consoles import progress, screen
from ..callbacks import TrainerCallback
from ..state import TrainerControl, TrainerState

HIDDEN_LOGS = (
    "loss", "learning_rate", "tokens_per_second", "epoch", "step", "num_tokens", "num_input_tokens_seen", "grad_norm",
    "total_flos",
)  # fmt: skip


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `4 min 20 s`."""
    total = max(round(seconds), 0)
    units = [(total // 86400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "min"), (total % 60, "s")]
    first = next((i for i, (count, _) in enumerate(units) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count) or "0 s"


def number(value: Any) -> str:
    """Return a value in few characters: `0.532`, `1,300`, `4.8e-05`."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e9):
        return f"{round(value):,}"
    return f"{value:.3g}" if abs(value) < 1e-3 and value else f"{value:.4g}"


class RemainingTime:
    """Estimate of the remaining time, from the steps since training started or resumed."""

    def __init__(self, state: TrainerState) -> None:
        self.start_time, self.start_step = time.perf_counter(), state.global_step

    def estimate(self, state: TrainerState) -> str:
        """Return a duration such as `4 min 20 s`; empty before the first step and after the last."""
        done, remaining = state.global_step - self.start_step, state.max_steps - state.global_step
        if done <= 0 or remaining <= 0:
            return ""
        return duration((time.perf_counter() - self.start_time) / done * remaining)


def format_logs(logs: Mapping[str, Any]) -> str:
    """Return the main values of a log in one line."""
    names = {"loss": "loss", "learning_rate": "lr"}
    parts = [f"{short} {number(logs[name])}" for name, short in names.items() if logs.get(name, "") != ""]
    if rate := logs.get("tokens_per_second"):
        parts.append(f"{round(rate):,} tokens/s")
    parts += [
        f"{name} {duration(value) if name.endswith('_runtime') else number(value)}"
        for name, value in logs.items()
        if name not in HIDDEN_LOGS and not name.endswith("_per_second")
    ]
    return "  ".join(parts)


class ProgressCallback(TrainerCallback):
    """Shows step, epoch, loss, learning rate, tokens a second and remaining time.

    On a terminal it updates one line, and a second line during an evaluation; results of evaluations are printed above.
    Otherwise, or with `disable_tqdm`, it prints one line a log.

    Args:
        console: output console; standard error when None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or screen(stderr=True)
        self.progress: Progress | None = None
        self.training: TaskID | None = None
        self.evaluation: TaskID | None = None
        self.remaining: RemainingTime | None = None
        self.last_log = ""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.remaining, self.last_log = RemainingTime(state), ""
        if display := self._display(args):
            self.training = display.add_task("training", total=state.max_steps, completed=state.global_step, text="")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._update(state)

    def on_prediction_step(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not (display := self._display(args)):
            return
        if self.evaluation is None:
            total = len(eval_dataloader) if isinstance(eval_dataloader, Sized) else None
            self.evaluation = display.add_task("evaluation", total=total, text="")
        display.advance(self.evaluation)

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._end_evaluation()

    def on_predict(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._end_evaluation()

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        text = format_logs(logs)
        if self.training is not None and "loss" in logs:
            self.last_log = text
            self._update(state)
            return
        parts = [f"step {state.global_step:,}/{state.max_steps:,}"] if state.max_steps else []
        parts += [f"epoch {state.epoch:.2f}"] if state.epoch else []
        left = self.remaining.estimate(state) if self.remaining and "loss" in logs else ""
        line = "  ".join([*parts, text, *([f"left {left}"] if left else [])])
        self.console.print(line, soft_wrap=not self.console.is_terminal, highlight=False, markup=False)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Stop the display and restore the terminal."""
        if self.progress is not None:
            self.progress.stop()
            atexit.unregister(self.close)
        self.progress = self.training = self.evaluation = self.remaining = None

    def _display(self, args: Any) -> Progress | None:
        """Return the display of a terminal, started at first use; None without a terminal."""
        if self.progress is None and self.console.is_terminal and not getattr(args, "disable_tqdm", None):
            text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, ratio=1))
            title = TextColumn("[bold]{task.description}")
            self.progress = progress(self.console, title, BarColumn(12), MofNCompleteColumn(), text, expand=True)
            self.progress.start()
            atexit.register(self.close)
        return self.progress

    def _update(self, state: TrainerState) -> None:
        if self.progress is None or self.training is None or self.remaining is None:
            return
        left = self.remaining.estimate(state)
        parts = [f"epoch {state.epoch:.2f}", f"left {left}" if left else "", self.last_log]
        self.progress.update(self.training, completed=state.global_step, text="  ".join(p for p in parts if p))

    def _end_evaluation(self) -> None:
        if self.progress is not None and self.evaluation is not None:
            self.progress.remove_task(self.evaluation)
            self.evaluation = None
            if self.training is None:
                self.close()
