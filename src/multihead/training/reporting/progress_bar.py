"""How training is shown while it runs: a display on a terminal, else one line for each log."""

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

APART = (
    "loss", "learning_rate", "tokens_per_second", "epoch", "step", "num_tokens", "num_input_tokens_seen", "grad_norm",
    "total_flos",
)  # fmt: skip


def duration(seconds: float) -> str:
    """Seconds as a reader counts them, the two largest units: `4 min 20 s`."""
    whole = max(round(seconds), 0)
    units = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (count, _) in enumerate(units) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count) or "0 s"


def number(value: Any) -> str:
    """A value in few characters: `0.532`, `1,300`, `4.8e-05`."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e9):
        return f"{round(value):,}"
    return f"{value:.3g}" if abs(value) < 1e-3 and value else f"{value:.4g}"


class Clock:
    """Time that is left, from the steps since training began or was gone on with."""

    def __init__(self, state: TrainerState) -> None:
        self.began, self.first = time.perf_counter(), state.global_step

    def left(self, state: TrainerState) -> str:
        """`4 min 20 s`; empty before the first step and after the last."""
        done, more = state.global_step - self.first, state.max_steps - state.global_step
        if done <= 0 or more <= 0:
            return ""
        return duration((time.perf_counter() - self.began) / done * more)


def shown(logs: Mapping[str, Any]) -> str:
    """What is worth reading of a log, in one line."""
    said = {"loss": "", "learning_rate": ""} | dict(logs)
    parts = [f"{short} {number(said[name])}" for name, short in (("loss", "loss"), ("learning_rate", "lr"))
             if said[name] != ""]  # fmt: skip
    if rate := logs.get("tokens_per_second"):
        parts.append(f"{round(rate):,} tokens/s")
    parts += [
        f"{name} {duration(value) if name.endswith('_runtime') else number(value)}"
        for name, value in logs.items()
        if name not in APART and not name.endswith("_per_second")
    ]
    return "  ".join(parts)


class ProgressCallback(TrainerCallback):
    """Shows step, epoch, loss, learning rate, tokens a second and time left.

    On a terminal that is one line that changes, with a second one while an evaluation runs; results of evaluations
    stay above it. Elsewhere, or with `disable_tqdm`, each log is a line.

    Args:
        console: where to; standard error when None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or screen(stderr=True)
        self.progress: Progress | None = None
        self.training: TaskID | None = None
        self.evaluation: TaskID | None = None
        self.clock: Clock | None = None
        self.last = ""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.clock, self.last = Clock(state), ""
        if display := self._display(args):
            self.training = display.add_task("training", total=state.max_steps, completed=state.global_step, said="")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._move(state)

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
            self.evaluation = display.add_task("evaluation", total=total, said="")
        display.advance(self.evaluation)

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._evaluated()

    def on_predict(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._evaluated()

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
        said = shown(logs)
        if self.training is not None and "loss" in logs:
            self.last = said
            self._move(state)
            return
        parts = [f"step {state.global_step:,}/{state.max_steps:,}"] if state.max_steps else []
        parts += [f"epoch {state.epoch:.2f}"] if state.epoch else []
        left = self.clock.left(state) if self.clock and "loss" in logs else ""
        line = "  ".join([*parts, said, *([f"left {left}"] if left else [])])
        self.console.print(line, soft_wrap=not self.console.is_terminal, highlight=False, markup=False)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Takes the display down, so that the terminal is as it was."""
        if self.progress is not None:
            self.progress.stop()
            atexit.unregister(self.close)
        self.progress = self.training = self.evaluation = self.clock = None

    def _display(self, args: Any) -> Progress | None:
        """The display on a terminal, begun when it is first needed; None elsewhere."""
        if self.progress is None and self.console.is_terminal and not getattr(args, "disable_tqdm", None):
            said = TextColumn("{task.fields[said]}", markup=False, table_column=Column(no_wrap=True, ratio=1))
            title = TextColumn("[bold]{task.description}")
            self.progress = progress(self.console, title, BarColumn(12), MofNCompleteColumn(), said, expand=True)
            self.progress.start()
            atexit.register(self.close)
        return self.progress

    def _move(self, state: TrainerState) -> None:
        if self.progress is None or self.training is None or self.clock is None:
            return
        left = self.clock.left(state)
        parts = [f"epoch {state.epoch:.2f}", f"left {left}" if left else "", self.last]
        self.progress.update(self.training, completed=state.global_step, said="  ".join(p for p in parts if p))

    def _evaluated(self) -> None:
        if self.progress is not None and self.evaluation is not None:
            self.progress.remove_task(self.evaluation)
            self.evaluation = None
            if self.training is None:
                self.close()
