"""Hooks that save and load the model and the state of a run."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import torch

from ...config import write_json
from ...errors import CheckpointBroken, InvalidInput
from ...training.callbacks import is_better, metric_value
from ...training.checkpointing.folders import RUN_FILE, add_to_manifest, verify
from ...training.checkpointing.run_state import load_random_state, random_state, save_random_states
from ...training.state import STATE_FILE, TrainerState
from ..constants import WEIGHTS_NAME
from .hooks import HookState

OPTIMIZER_FILE, SCHEDULER_FILE = "optimizer.pt", "scheduler.pt"


class CheckpointHooks(HookState):
    """Files of a `HookTrainer`; a subclass may override each method."""

    def save_model(self, output_dir: str | os.PathLike[str] | None = None, _internal_call: bool = False) -> None:
        """Write the model and the tokenizer."""
        self._save(os.fspath(output_dir or self.args.output_dir))
        if self.args.push_to_hub and not (_internal_call or self.uploads.active):
            self.push_to_hub("Model save")  # type: ignore[attr-defined]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write the files of the model, the tokenizer and the arguments into a folder."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(str(folder), **({} if state_dict is None else {"state_dict": state_dict}))
        else:
            torch.save(model.state_dict() if state_dict is None else state_dict, folder / WEIGHTS_NAME)
        if self.processing_class is not None and hasattr(self.processing_class, "save_pretrained"):
            self.processing_class.save_pretrained(str(folder))

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        """Write `checkpoint-STEP`, with what a run needs to resume."""
        best = self.state.best_model_checkpoint
        if self.state.best_global_step == self.state.global_step:
            best = self.state.best_model_checkpoint = str(self.checkpoints.path(self.state.global_step))
        self.checkpoints.save(self.state.global_step, self._write_checkpoint, None if best is None else Path(best))

    def _write_checkpoint(self, folder: Path) -> None:
        self.save_model(folder, _internal_call=True)
        if self.checkpoints.run_id is None:
            self.checkpoints.run_id = uuid.uuid4().hex
        write_json(folder / RUN_FILE, {"run": self.checkpoints.run_id, "sequence": self.checkpoints.sequence() + 1})
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            save_random_states(folder, [random_state()])
        self.state.stateful_callbacks = self.callbacks.states()
        self.state.save_to_json(folder / STATE_FILE)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the states of both."""
        torch.save(self.optimizer.state_dict(), Path(output_dir, OPTIMIZER_FILE))
        torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_FILE))

    def _after_save(self) -> None:
        """Run callbacks after a checkpoint, and upload it."""
        folder = self.checkpoints.path(self.state.global_step)
        self.notify("on_save")
        if folder.is_dir():
            add_to_manifest(folder)
            self.uploads.checkpoint(folder)

    def _find_checkpoint(self, wanted: Any) -> Path | None:
        """Return the checkpoint to resume from; None to begin anew. Raises InvalidInput, CheckpointBroken."""
        if not wanted:
            return None
        if wanted is not True:
            verify(Path(wanted))
            return Path(wanted)
        found: Path | None = self.checkpoints.newest()
        if found is None:
            raise InvalidInput(f"{self.args.output_dir} has no checkpoint to resume from.")
        return found

    def _load_state(self, folder: Path) -> None:
        """Read the optimizer, the schedule and the random generators. Raises CheckpointBroken."""
        if not (folder / OPTIMIZER_FILE).is_file():
            raise CheckpointBroken(f"{folder} has no {OPTIMIZER_FILE}: it was saved with save_only_model=True.")
        self.optimizer.load_state_dict(torch.load(folder / OPTIMIZER_FILE, weights_only=True, map_location="cpu"))
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER_FILE, weights_only=True))

    def _restore_progress(self, folder: Path) -> None:
        """Read the state of the run and of its callbacks."""
        self.state = TrainerState.load_from_json(folder / STATE_FILE)
        self.callbacks.restore(self.state.stateful_callbacks)

    @staticmethod
    def _restore_random(folder: Path) -> None:
        load_random_state(folder, 0)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Read the weights of a checkpoint into the model."""
        folder = Path(resume_from_checkpoint)
        model = self.accelerator.unwrap_model(self.model if model is None else model)
        if (folder / "adapter_config.json").is_file() and hasattr(model, "active_adapter"):
            model.load_adapter(str(folder), model.active_adapter, is_trainable=True)
        elif hasattr(type(model), "from_pretrained"):
            model.load_state_dict(type(model).from_pretrained(str(folder)).state_dict())
        else:
            model.load_state_dict(torch.load(folder / WEIGHTS_NAME, weights_only=True, map_location="cpu"))

    def _load_best_model(self) -> None:
        """Read the weights of the best evaluation."""
        if self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any = None) -> bool:
        """Note whether an evaluation is the best so far, and return it."""
        better = is_better(self.args, metric_value(self.args, metrics), self.state.best_metric)
        if better:
            self.state.best_metric, self.state.best_global_step = (
                metric_value(self.args, metrics), self.state.global_step,
            )  # fmt: skip
        return better
