"""Loggers of TensorBoard and Weights & Biases.

Names are grouped: `train/loss`, `eval/accuracy`, `test/accuracy`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import UnsupportedOption, nearest
from ..callbacks import TrainerCallback
from ..optional_packages import optional
from ..state import TrainerControl, TrainerState

Logs = Mapping[str, Any]


def group_names(logs: Logs) -> dict[str, Any]:
    """Return logs with grouped names: `eval_loss` becomes `eval/loss`, `loss` becomes `train/loss`."""
    names = {}
    for name, value in logs.items():
        group, separator, rest = name.partition("_")
        names[f"{group}/{rest}" if separator and group in ("eval", "test") else f"train/{name}"] = value
    return names


def _settings_json(args: Any, model: Any) -> dict[str, str]:
    """Return the training arguments and the model config as JSON, if available."""
    parts = {"args": args, "model_config": getattr(model, "config", None)}
    return {name: part.to_json_string() for name, part in parts.items() if hasattr(part, "to_json_string")}


class TensorBoardCallback(TrainerCallback):
    """Writes logs for TensorBoard into `args.logging_dir`, or into `runs/` in `args.output_dir`.

    Args:
        tb_writer: a `SummaryWriter`; created if None.

    Raises:
        UnsupportedOption: tensorboard is not installed.
    """

    def __init__(self, tb_writer: Any = None) -> None:
        self.writer = tb_writer
        if tb_writer is None:
            optional("tensorboard", "tensorboard", 'report_to="tensorboard"')

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            writer = self._open(args)
            for name, text in _settings_json(args, model).items():
                writer.add_text(name, f"```json\n{text}\n```")

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Logs | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        writer = self._open(args)
        for name, value in group_names(logs or {}).items():
            if isinstance(value, (int, float)):
                writer.add_scalar(name, value, state.global_step)
            elif isinstance(value, str):
                writer.add_text(name, value, state.global_step)
        writer.flush()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _open(self, args: Any) -> Any:
        if self.writer is None:
            folder = getattr(args, "logging_dir", None) or os.environ.get("TENSORBOARD_LOGGING_DIR")
            run = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{socket.gethostname()}"
            folder = Path(folder).expanduser() if folder else Path(args.output_dir) / "runs" / run
            tensorboard = optional("torch.utils.tensorboard", "tensorboard", 'report_to="tensorboard"')
            self.writer = tensorboard.SummaryWriter(str(folder))
        return self.writer


class WandbCallback(TrainerCallback):
    """Sends logs to Weights & Biases, into the active run, or a new run with the name `args.run_name`.

    Settings of wandb come from the environment, such as WANDB_PROJECT and WANDB_MODE.

    Raises:
        UnsupportedOption: wandb is not installed.
    """

    def __init__(self) -> None:
        self.wandb = optional("wandb", "wandb", 'report_to="wandb"', "python -m pip install wandb")

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._open(args, model)

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: Logs | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero:
            self._open(args, model)
            self.wandb.log({**group_names(logs or {}), "train/global_step": state.global_step})

    def _open(self, args: Any, model: Any) -> None:
        """Start a run if none is active. It stays open for later evaluations; wandb ends it with the process."""
        if self.wandb.run is None:
            config: dict[str, Any] = {}
            for part in (getattr(model, "config", None), args):
                config |= part.to_dict() if part is not None and hasattr(part, "to_dict") else {}
            project = os.environ.get("WANDB_PROJECT", "multihead")
            self.wandb.init(project=project, name=getattr(args, "run_name", None), config=config)
            self.wandb.define_metric("train/global_step")
            self.wandb.define_metric("*", step_metric="train/global_step", step_sync=True)


LOGGERS: Mapping[str, type[TrainerCallback]] = {"tensorboard": TensorBoardCallback, "wandb": WandbCallback}


def create_loggers(report_to: str | Sequence[str] | None) -> list[TrainerCallback]:
    """Create the callbacks of `report_to`: a name, several names, `"none"`, or `"all"` for all installed packages.

    Raises:
        UnsupportedOption: an unknown name, or a package that is not installed.
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to or ())
    if names == ["all"]:
        return [kind() for name, kind in LOGGERS.items() if find_spec(name) is not None]
    if names == ["none"]:
        return []
    for name in names:
        if name not in LOGGERS:
            raise UnsupportedOption(
                f"report_to names {name!r}, which is unknown. {nearest(name, [*LOGGERS, 'all', 'none'])} For "
                "another service, add a TrainerCallback whose on_log sends the logs there."
            )
    return [LOGGERS[name]() for name in dict.fromkeys(names)]
