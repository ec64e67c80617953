"""Writing a run's checkpoints and going on from one: model, tokenizer, and all that the next step depends on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from torch import Tensor

from ...config import read_json, write_json
from ...errors import CheckpointBroken, CheckpointNotWritten, ModelNotFound, UnsafeFile, read_errors, warn
from ..arguments import ARGUMENTS_FILE
from ..data.sampler import Order
from ..distributed.dtensor import Together, placed
from ..optim.optimizer_step import Stepper
from ..optim.optimizers import learning
from ..state import STATE_FILE, Losses, TrainerState
from . import run_state as resume
from .folders import MANIFEST, RUN_FILE, check, run_of

if TYPE_CHECKING:
    from ..trainer import Trainer


class Saver:
    """Saves and restores for one Trainer.

    Args:
        overridden: whether a subclass has a `save_model` of its own, whose files may be no model.
    """

    def __init__(self, trainer: Trainer, *, overridden: bool = False) -> None:
        self.trainer, self.overridden = trainer, overridden
        self.stepper: Stepper | None = None
        self.plan: dict[str, Any] = {}
        self.losses = Losses()  # of the run so far
        self.kept: Path | None = None  # the checkpoint that this run wrote last, or goes on from
        self.within = False  # a checkpoint: the first process is writing it
        self.best_run: str | None = None  # which wrote the best checkpoint

    @property
    def reloads(self) -> bool:
        """Whether the model's own files are all that its weights are restored from."""
        return self.trainer.job.reloads and not self.overridden

    def model(self, folder: Path) -> None:
        """The model and its tokenizer, with averaged weights where there are any; in a checkpoint as they are."""
        trainer = self.trainer
        if self.within:
            trainer.job.save(folder)
            return
        with self.averaged(), trainer.parallel.whole(trainer.model):
            if trainer.world.first:
                trainer.job.save(folder)
        trainer.world.wait()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has its averaged weights inside."""
        average = self.trainer.average
        if average is None or not average.steps:
            yield
            return
        average.swap(self.trainer.model)
        try:
            yield
        finally:
            average.swap(self.trainer.model)

    def probe(self) -> None:
        """Raises CheckpointNotWritten, on every process, where no checkpoint could be written at a first save."""
        trainer = self.trainer
        if trainer.args.save_strategy == "no":
            return
        error: CheckpointNotWritten | None = None
        if trainer.world.first:
            try:
                trainer.checkpoints.probe(sum(p.numel() * p.element_size() for _, p in learning(trainer.model)))
            except CheckpointNotWritten as found:
                error = found
        told = trainer.world.told(error)
        if isinstance(told, CheckpointNotWritten):
            raise told

    def checkpoint(self) -> Path:
        """A checkpoint of this step, written by the first process; all processes wait for it.

        Raises:
            CheckpointNotWritten: on every process.
        """
        trainer, state = self.trainer, self.trainer.state
        path = trainer.checkpoints.path(state.global_step)
        if trainer.world.told(path == self.kept and (path / MANIFEST).is_file()):
            return path
        best: Any = trainer.world.told(self._best(path))
        state.best_model_checkpoint = str(best) if best is not None else None
        state.stateful_callbacks = trainer.callbacks.states()
        error: CheckpointNotWritten | None = None
        randoms = trainer.world.gathered(resume.random_state())
        together = Together(trainer.world, self._state() if trainer.parallel.sharded else {})
        # a checkpoint that is a model and no more is the model that was evaluated
        judged = self.averaged() if trainer.args.save_only_model else nullcontext()
        with judged, trainer.parallel.whole(trainer.model):
            if trainer.world.first:
                try:
                    trainer.checkpoints.save(
                        state.global_step, lambda folder: self._write(folder, randoms, together), best
                    )
                except CheckpointNotWritten as found:
                    error = found
                together.end()
            else:
                together.follow()
        told = trainer.world.told(error)
        if isinstance(told, CheckpointNotWritten):
            raise told
        self.kept = path
        return path

    def _best(self, path: Path) -> Path | None:
        """The checkpoint of the best evaluation, once `path` is written: only a step that was saved can be one."""
        trainer, state = self.trainer, self.trainer.state
        step = state.best_global_step
        found = trainer.checkpoints.path(step) if step is not None else None
        own = found is not None and (found == path or run_of(found) == trainer.checkpoints.run)
        kept = Path(state.best_model_checkpoint) if state.best_model_checkpoint else None
        self.best_run = trainer.checkpoints.run if own else self.best_run
        return found if own else kept

    def _state(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint has beside the model's own files."""
        trainer = self.trainer
        if trainer.args.save_only_model or self.stepper is None:
            return {}
        weights = trainer.parallel.sharded or not self.reloads
        return resume.tensors(trainer.model, self.stepper.optimizer, trainer.average, weights=weights)

    def _write(self, folder: Path, randoms: list[Any], together: Together) -> None:
        trainer, args = self.trainer, self.trainer.args
        together.lead(folder)
        self._write_model(folder)
        write_json(folder / ARGUMENTS_FILE, args.to_dict())
        trainer.state.save_to_json(folder / STATE_FILE)
        scaler = self.stepper.scaler if self.stepper is not None else None
        told = {"run": trainer.checkpoints.run, **self.plan, "scaler": scaler.state_dict() if scaler else None,
                "parted": bool(together.tensors), "losses": asdict(self.losses)}  # fmt: skip
        told |= {"sequence": trainer.checkpoints.sequence() + 1, "best_run": self.best_run}
        write_json(folder / RUN_FILE, told)
        if args.save_only_model or self.stepper is None:
            if args.load_best_model_at_end and not self.reloads:
                weights = {f"weights/{name}": parameter for name, parameter in learning(trainer.model)}
                resume.save(folder, weights, resume.LEARNED)
            return
        if not trainer.parallel.sharded:
            resume.save(folder, self._state())
        resume.save_random(folder, randoms)

    def _write_model(self, folder: Path) -> None:
        """The model as `Trainer.save_model` writes it, which a subclass may override."""
        save = self.trainer.save_model
        inner = {"_internal_call": True} if "_internal_call" in signature(save).parameters else {}
        self.within = True
        try:
            save(str(folder), **inner)
        finally:
            self.within = False

    def resume(self, chosen: Any, stepper: Stepper, order: Order) -> None:
        """Notes the plan of a run, and goes on from a checkpoint where one is asked for.

        Args:
            chosen: a folder, True for the newest whole checkpoint, or None.

        Raises:
            CheckpointBroken: it is not whole, or belongs to a run of another plan. ModelNotFound: it is not there.
            UnsafeFile: it holds what was not written with it, or wants to run code.
        """
        self.stepper, self.losses = stepper, Losses()
        self.plan = {
            "examples": len(order.lengths), "tokens": int(order.lengths.sum()), "batch": order.batch * order.together,
            "max_tokens_per_batch": order.tokens, "seed": order.seed, "order": order.kind, "drop_last": order.whole,
            "labels": list(labels.names) if (labels := getattr(self.trainer.job, "labels", None)) else None,
        }  # fmt: skip
        trainer = self.trainer
        path = self.kept = self._chosen(chosen)
        trainer.checkpoints.run = self._run(path, newest=chosen is True)
        if path is None:
            return
        if not resume.has_state(path):
            raise CheckpointBroken(f"{path} holds a model only (save_only_model=True): a run cannot go on from it.")
        with read_errors(path, CheckpointBroken, "Go on from an older checkpoint."):
            self._restore(path, stepper, order)

    def _restore(self, path: Path, stepper: Stepper, order: Order) -> None:
        """Goes on from a checkpoint that is whole."""
        trainer = self.trainer
        self._same_plan(path, order)
        self.weights(path)
        resume.load(path, trainer.model, stepper.optimizer, trainer.average)
        resume.load_random(path, trainer.world.rank)
        told = read_json(path / RUN_FILE)
        self.best_run = told.get("best_run", told.get("run"))
        self.losses = Losses.read(told.get("losses"))
        if stepper.scaler is not None and told.get("scaler"):
            stepper.scaler.load_state_dict(told["scaler"])
        steps = trainer.state.max_steps
        state = TrainerState.load_from_json(path / STATE_FILE)
        state.max_steps, state.num_train_epochs = steps, trainer.state.num_train_epochs
        state.is_world_process_zero, state.is_local_process_zero = trainer.world.first, trainer.world.local == 0
        state.compute_steps(trainer.args, steps)
        if missing := trainer.callbacks.restore(state.stateful_callbacks):
            warn(f"{path} has states of callbacks that this run has not: {', '.join(missing)}.")
        trainer.state = state

    def _run(self, path: Path | None, *, newest: bool) -> str:
        """The identity of a run: that of the checkpoint from which it goes on, unless others of that run follow it."""
        checkpoints = self.trainer.checkpoints
        known = checkpoints.run = run_of(path) if path is not None else None
        follow = not newest and path in (own := checkpoints.own()) and path != own[-1]
        return str(self.trainer.world.told(uuid4().hex if known is None or follow else known))

    def _chosen(self, chosen: Any) -> Path | None:
        if chosen in (None, False):
            return None
        if chosen is True:
            found = self.trainer.checkpoints.newest()
            if found is None:
                raise ModelNotFound(
                    f"{self.trainer.place} has no whole checkpoint to go on from; leave resume_from_checkpoint out."
                )
            return found
        path = Path(os.fspath(chosen))
        if not path.is_dir():
            raise ModelNotFound(f"There is no checkpoint {path}.")
        check(path)
        return path

    def _same_plan(self, path: Path, order: Order) -> None:
        told = read_json(path / RUN_FILE)
        told = {"labels": self.plan["labels"], **told}  # which older runs do not tell
        wrong = [name for name, value in self.plan.items() if told.get(name) != value]
        if not wrong:
            return
        advice = "Use the data and settings that it began with."
        if wrong == ["batch"]:
            each = order.batch * self.trainer.parallel.replicas
            fits = told["batch"] % each == 0
            number = told["batch"] // each
            advice = (
                f"On {self.trainer.world.size} processes, gradient_accumulation_steps = {number} keeps its batches."
                if fits
                else f"Its batches have {told['batch']} examples; choose per_device_train_batch_size and "
                "gradient_accumulation_steps whose product with the number of processes is that."
            )
        lines = ", ".join(f"{name} {told.get(name)!r}, now {self.plan[name]!r}" for name in wrong)
        raise CheckpointBroken(f"{path} belongs to a run of another plan: {lines}. {advice}")

    def weights(self, path: Path) -> None:
        """Gives the model the weights of a checkpoint, in place."""
        job, model = self.trainer.job, self.trainer.model
        if not self.reloads:
            return
        stored = dict(job.load(path).named_parameters())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(placed(stored[name].detach(), parameter))

    def best(self) -> None:
        """Gives the model the weights of the best checkpoint, averaged where there are averages.

        Where there is none that is whole, the weights of the last step stay, with a warning.
        """
        trainer, told = self.trainer, self.trainer.state.best_model_checkpoint
        path, why = Path(told) if told else None, "no checkpoint was written at the step of a best evaluation"
        if path is not None:
            why = wrong(path) or ("" if run_of(path) == self.best_run else f"{path} was written anew by another run")
        if path is None or why:
            why = why.rstrip(".")
            warn(f"load_best_model_at_end: {why}; the weights of the last step stay. Save at each evaluation.")
            return
        self.weights(path)
        found = resume.judged(path, trainer.model)
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if name in found:
                    parameter.copy_(placed(found[name], parameter))
        trainer.average = None


def wrong(path: Path) -> str:
    """What is wrong with a checkpoint; nothing where it is whole."""
    if not (path / MANIFEST).is_file():
        return f"{path} is gone"
    try:
        check(path)
    except (CheckpointBroken, UnsafeFile) as error:
        return str(error)
    return ""
