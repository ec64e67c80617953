"""Checkpoints of a Trainer: writing them, resuming from them, and loading the best one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from ...config import read_json, write_json
from ...errors import CheckpointBroken, CheckpointNotWritten, ModelNotFound, UnsafeFile, read_errors, warn
from ...nn.own_names import own_parameters
from ..arguments import ARGUMENTS_FILE
from ..data.sampler import EpochSampler
from ..distributed.dtensor import SharedFolderWriter, distribute_like
from ..optim.optimizer_step import Stepper
from ..optim.optimizers import trainable_parameters
from ..session import TrainingSession
from ..state import STATE_FILE, LossSums, TrainerState
from . import run_state
from .folders import MANIFEST, RUN_FILE, read_run_id, verify


class CheckpointSaver:
    """Writes and restores the checkpoints of one Trainer.

    Args:
        custom_save: a subclass overrides `save_model`, so its files may be no model.
    """

    def __init__(self, trainer: TrainingSession, *, custom_save: bool = False) -> None:
        self.trainer, self.custom_save = trainer, custom_save
        self.stepper: Stepper | None = None
        self.plan: dict[str, Any] = {}  # data and batches of the run, which a resumed run must share
        self.losses = LossSums()
        self.last_path: Path | None = None  # checkpoint that this run wrote last or resumed from
        self.in_checkpoint = False  # the first process is writing a checkpoint
        self.best_run_id: str | None = None  # run that wrote the best checkpoint

    @property
    def reloads(self) -> bool:
        """True if the model's own files hold all weights that a resumed run needs."""
        return self.trainer.job.reloads and not self.custom_save

    def save_model(self, folder: Path) -> None:
        """Write the model and its tokenizer, with averaged weights if they exist; a checkpoint has the raw weights."""
        trainer = self.trainer
        if self.in_checkpoint:
            trainer.job.save(folder)
            return
        with self.averaged_weights(), trainer.parallel.full_model(trainer.model):
            if trainer.process_group.is_first:
                trainer.job.save(folder)
        trainer.process_group.barrier()

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Give the model its averaged weights inside the block."""
        average = self.trainer.average
        if average is None or not average.steps:
            yield
            return
        average.swap(self.trainer.model)
        try:
            yield
        finally:
            average.swap(self.trainer.model)

    def check_writable(self) -> None:
        """Raise CheckpointNotWritten, on every process, if a checkpoint could not be written."""
        trainer = self.trainer
        if trainer.args.save_strategy == "no":
            return
        error: CheckpointNotWritten | None = None
        if trainer.process_group.is_first:
            parameters = trainable_parameters(trainer.model)
            try:
                trainer.checkpoints.check_writable(sum(p.numel() * p.element_size() for _, p in parameters))
            except CheckpointNotWritten as failure:
                error = failure
        self._raise_everywhere(error)

    def _raise_everywhere(self, error: CheckpointNotWritten | None) -> None:
        """Raise the error of the first process on every process."""
        shared = self.trainer.process_group.broadcast(error)
        if isinstance(shared, CheckpointNotWritten):
            raise shared

    def save_checkpoint(self) -> Path:
        """Write a checkpoint of this step in the first process; all processes wait for it.

        Raises:
            CheckpointNotWritten: on every process.
        """
        trainer, state = self.trainer, self.trainer.state
        path = trainer.checkpoints.path(state.global_step)
        group = trainer.process_group
        if group.broadcast(path == self.last_path and (path / MANIFEST).is_file()):
            return path
        best: Any = group.broadcast(self._best_path(path))
        state.best_model_checkpoint = str(best) if best is not None else None
        state.stateful_callbacks = trainer.callbacks.states()
        error: CheckpointNotWritten | None = None
        random_states = group.gather_objects(run_state.random_state())
        writer = SharedFolderWriter(group, self._state_tensors() if trainer.parallel.sharded else {})
        # a checkpoint with only a model holds the weights that were evaluated
        weights = self.averaged_weights() if trainer.args.save_only_model else nullcontext()
        with weights, trainer.parallel.full_model(trainer.model):
            if group.is_first:
                try:
                    trainer.checkpoints.save(
                        state.global_step, lambda folder: self._write(folder, random_states, writer), best
                    )
                except CheckpointNotWritten as failure:
                    error = failure
                writer.end()
            else:
                writer.follow()
        self._raise_everywhere(error)
        self.last_path = path
        return path

    def _best_path(self, path: Path) -> Path | None:
        """Return the checkpoint of the best evaluation once `path` is written; the best step must have been saved."""
        trainer, state = self.trainer, self.trainer.state
        step = state.best_global_step
        best = trainer.checkpoints.path(step) if step is not None else None
        own = best is not None and (best == path or read_run_id(best) == trainer.checkpoints.run_id)
        previous = Path(state.best_model_checkpoint) if state.best_model_checkpoint else None
        self.best_run_id = trainer.checkpoints.run_id if own else self.best_run_id
        return best if own else previous

    def _state_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint beside the model files."""
        trainer = self.trainer
        if trainer.args.save_only_model or self.stepper is None:
            return {}
        weights = trainer.parallel.sharded or not self.reloads
        return run_state.state_tensors(trainer.model, self.stepper.optimizer, trainer.average, weights=weights)

    def _write(self, folder: Path, random_states: list[Any], writer: SharedFolderWriter) -> None:
        trainer, args = self.trainer, self.trainer.args
        writer.lead(folder)
        self._write_model(folder)
        write_json(folder / ARGUMENTS_FILE, args.to_dict())
        trainer.state.save_to_json(folder / STATE_FILE)
        scaler = self.stepper.scaler if self.stepper is not None else None
        entries = {"run": trainer.checkpoints.run_id, **self.plan, "scaler": scaler.state_dict() if scaler else None,
                   "parted": bool(writer.tensors), "losses": asdict(self.losses)}  # fmt: skip
        entries |= {"sequence": trainer.checkpoints.sequence() + 1, "best_run": self.best_run_id}
        write_json(folder / RUN_FILE, entries)
        if args.save_only_model or self.stepper is None:
            if args.load_best_model_at_end and not self.reloads:
                weights = {f"weights/{name}": parameter for name, parameter in trainable_parameters(trainer.model)}
                run_state.save_tensors(folder, weights, run_state.WEIGHTS)
            return
        if not trainer.parallel.sharded:
            run_state.save_tensors(folder, self._state_tensors())
        run_state.save_random_states(folder, random_states)

    def _write_model(self, folder: Path) -> None:
        """Write the model by `Trainer.save_model`, which a subclass may override."""
        save = self.trainer.save_model
        options = {"_internal_call": True} if "_internal_call" in signature(save).parameters else {}
        self.in_checkpoint = True
        try:
            save(str(folder), **options)
        finally:
            self.in_checkpoint = False

    def start(self, checkpoint: Any, stepper: Stepper, sampler: EpochSampler) -> None:
        """Start a run, or resume it from a checkpoint.

        Args:
            checkpoint: a folder, True for the newest valid checkpoint, or None.

        Raises:
            CheckpointBroken: the checkpoint is invalid, or its run had other data or batches.
            ModelNotFound: there is no such checkpoint.
            UnsafeFile: a file was added to the checkpoint, or a file would run code.
        """
        self.stepper, self.losses = stepper, LossSums()
        self.plan = {
            "examples": len(sampler.lengths), "tokens": int(sampler.lengths.sum()),
            "batch": sampler.batch_size * sampler.batches_per_step, "max_tokens_per_batch": sampler.max_tokens,
            "seed": sampler.seed, "order": sampler.strategy, "drop_last": sampler.drop_last,
            "labels": list(labels.names) if (labels := getattr(self.trainer.job, "labels", None)) else None,
        }  # fmt: skip
        trainer = self.trainer
        path = self.last_path = self._resolve(checkpoint)
        trainer.checkpoints.run_id = self._run_id(path, newest=checkpoint is True)
        if path is None:
            return
        if not run_state.has_state(path):
            raise CheckpointBroken(f"{path} holds only a model (save_only_model=True): a run cannot resume from it.")
        with read_errors(path, CheckpointBroken, "Resume from an older checkpoint."):
            self._restore(path, stepper, sampler)

    def _restore(self, path: Path, stepper: Stepper, sampler: EpochSampler) -> None:
        """Restore a valid checkpoint."""
        trainer = self.trainer
        self._check_plan(path, sampler)
        self.load_weights(path)
        run_state.load_tensors(path, trainer.model, stepper.optimizer, trainer.average)
        run_state.load_random_state(path, trainer.process_group.rank)
        entries = read_json(path / RUN_FILE)
        self.best_run_id = entries.get("best_run", entries.get("run"))
        self.losses = LossSums.read(entries.get("losses"))
        if stepper.scaler is not None and entries.get("scaler"):
            stepper.scaler.load_state_dict(entries["scaler"])
        steps = trainer.state.max_steps
        state = TrainerState.load_from_json(path / STATE_FILE)
        state.max_steps, state.num_train_epochs = steps, trainer.state.num_train_epochs
        group = trainer.process_group
        state.is_world_process_zero, state.is_local_process_zero = group.is_first, group.local_rank == 0
        state.compute_steps(trainer.args, steps)
        if missing := trainer.callbacks.restore(state.stateful_callbacks):
            warn(f"{path} has states of callbacks that this run does not have: {', '.join(missing)}.")
        trainer.state = state

    def _run_id(self, path: Path | None, *, newest: bool) -> str:
        """Return the run id of the checkpoint, or a new id if later checkpoints of its run exist."""
        checkpoints = self.trainer.checkpoints
        known = checkpoints.run_id = read_run_id(path) if path is not None else None
        has_later = not newest and path in (own := checkpoints.of_this_run()) and path != own[-1]
        return str(self.trainer.process_group.broadcast(uuid4().hex if known is None or has_later else known))

    def _resolve(self, checkpoint: Any) -> Path | None:
        """Return the path of a valid checkpoint; None to start again."""
        if checkpoint in (None, False):
            return None
        if checkpoint is True:
            newest = self.trainer.checkpoints.newest()
            if newest is None:
                raise ModelNotFound(
                    f"{self.trainer.output_dir} has no valid checkpoint to resume from; leave resume_from_checkpoint "
                    "out."
                )
            return newest
        path = Path(os.fspath(checkpoint))
        if not path.is_dir():
            raise ModelNotFound(f"There is no checkpoint {path}.")
        verify(path)
        return path

    def _check_plan(self, path: Path, sampler: EpochSampler) -> None:
        """Raise CheckpointBroken if the run of a checkpoint had other data or batches."""
        saved = read_json(path / RUN_FILE)
        saved = {"labels": self.plan["labels"], **saved}  # older versions did not store labels
        changed = [name for name, value in self.plan.items() if saved.get(name) != value]
        if not changed:
            return
        advice = "Use the data and settings that the run began with."
        if changed == ["batch"]:
            size = sampler.batch_size * self.trainer.parallel.replicas
            fits = saved["batch"] % size == 0
            number = saved["batch"] // size
            advice = (
                f"On {self.trainer.process_group.size} processes, gradient_accumulation_steps = {number} keeps its "
                "batches."
                if fits
                else f"Its batches have {saved['batch']} examples; choose per_device_train_batch_size and "
                "gradient_accumulation_steps whose product with the number of processes is that."
            )
        lines = ", ".join(f"{name} {saved.get(name)!r}, now {self.plan[name]!r}" for name in changed)
        raise CheckpointBroken(f"{path} belongs to a run with other data or batches: {lines}. {advice}")

    def load_weights(self, path: Path) -> None:
        """Load the weights of a checkpoint into the model, in place."""
        job, model = self.trainer.job, self.trainer.model
        if not self.reloads:
            return
        stored = dict(own_parameters(job.load(path)))
        with torch.no_grad():
            for name, parameter in own_parameters(model):
                parameter.copy_(distribute_like(stored[name].detach(), parameter))

    def load_best(self) -> None:
        """Load the weights of the best checkpoint, averaged if it has averages.

        Without a valid best checkpoint the weights of the last step stay, with a warning.
        """
        trainer, best = self.trainer, self.trainer.state.best_model_checkpoint
        path, why = Path(best) if best else None, "no checkpoint was written at the step of a best evaluation"
        if path is not None:
            why = fault(path)
            if not why and read_run_id(path) != self.best_run_id:
                why = f"{path} was overwritten by another run"
        if path is None or why:
            why = why.rstrip(".")
            warn(f"load_best_model_at_end: {why}; the weights of the last step stay. Save at each evaluation.")
            return
        self.load_weights(path)
        weights = run_state.evaluated_weights(path, trainer.model)
        with torch.no_grad():
            for name, parameter in own_parameters(trainer.model):
                if name in weights:
                    parameter.copy_(distribute_like(weights[name], parameter))
        trainer.average = None


def fault(path: Path) -> str:
    """Return the fault of a checkpoint; empty if it is valid."""
    if not (path / MANIFEST).is_file():
        return f"{path} is gone"
    try:
        verify(path)
    except (CheckpointBroken, UnsafeFile) as error:
        return str(error)
    return ""
