"""Training loop over the hooks: epochs, steps, and the logs, evaluations and checkpoints that callbacks request."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ...errors import InvalidInput
from ...training.run import TrainOutput
from ...training.state import TrainerState
from ..training_names import has_length, speed_metrics
from .checkpoints import CheckpointHooks
from .evaluation import EvaluationHooks
from .optimizers import OptimizerHooks


class LoopHooks(EvaluationHooks, OptimizerHooks, CheckpointHooks):
    """Training of a `HookTrainer`."""

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """Return the model that the loop trains."""
        return model

    def _run(self, checkpoint: Path | None) -> TrainOutput:
        """Train from the begin, or from a checkpoint."""
        if checkpoint is not None:
            self._load_from_checkpoint(str(checkpoint))
        loader = self.get_train_dataloader()
        batches = len(loader) if has_length(loader) else None
        steps, epochs, per_epoch = self._extent(batches)
        self.state = TrainerState(max_steps=steps, num_train_epochs=epochs, train_batch_size=self.args.train_batch_size)
        if checkpoint is not None:
            self._restore_progress(checkpoint)
        self.state.max_steps, self.state.num_train_epochs = steps, epochs
        self.state.compute_steps(self.args, steps)
        model = self._prepare(steps, loader)
        if checkpoint is not None:
            self._load_state(checkpoint)
        self._start_time, self._start_step = time.time(), self.state.global_step
        self._loss = torch.tensor(0.0, device=self._device)
        self._total_loss, self._logged_step = 0.0, self.state.global_step
        model.zero_grad()
        self.notify("on_train_begin")
        if self.args.eval_on_start and checkpoint is None:
            self._evaluate(None, None)
        first, done = divmod(self.state.global_step, per_epoch)
        for epoch in range(first, epochs):
            self.notify("on_epoch_begin")
            resumed = checkpoint if epoch == first else None
            self._train_epoch(model, loader, epoch, batches, per_epoch, done if resumed is not None else 0, resumed)
            if self.control.should_training_stop:
                break
        return self._finish()

    def _extent(self, batches: int | None) -> tuple[int, int, int]:
        """Return the steps, the epochs, and the steps of an epoch. Raises InvalidInput for an endless stream."""
        args = self.args
        if batches is None:
            if args.max_steps <= 0:
                raise InvalidInput("The data loader has no length, so that max_steps must say how long to train.")
            return args.max_steps, sys.maxsize, args.max_steps
        per_epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
        if args.max_steps > 0:
            return args.max_steps, math.ceil(args.max_steps / per_epoch), per_epoch
        return math.ceil(args.num_train_epochs * per_epoch), math.ceil(args.num_train_epochs), per_epoch

    def _prepare(self, steps: int, loader: Any) -> Any:
        """Create optimizer and schedule, and return the model that accelerate prepares."""
        self.create_optimizer()
        model = self._wrap_model(self.model_wrapped)
        if model is self.model:
            model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        else:
            self.optimizer = self.accelerator.prepare(self.optimizer)
        self.create_scheduler(num_training_steps=steps)
        self.model_wrapped = model
        self.callbacks.share(
            model=self.model, optimizer=self.optimizer, lr_scheduler=self.lr_scheduler, train_dataloader=loader
        )
        return model

    def _train_epoch(
        self, model: Any, loader: Any, epoch: int, batches: int | None, per_epoch: int, done: int, resumed: Path | None
    ) -> None:
        """Run the steps of an epoch, but for the first `done`."""
        size = self.args.gradient_accumulation_steps
        total = batches if batches is not None else self.state.max_steps * size
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(epoch)
        inner: Any = getattr(getattr(loader, "batch_sampler", None), "batch_sampler", None)
        if hasattr(inner, "set_epoch"):
            inner.set_epoch(epoch)
        batch = done * size
        iterator = islice(iter(loader), batch, None) if batch else iter(loader)
        norm = rate = None
        for update in range(done, per_epoch):
            wanted = (total % size or size) if update == per_epoch - 1 else size
            samples, count = self.get_batch_samples(iterator, wanted, self._device)
            self.current_gradient_accumulation_steps = len(samples)
            if resumed is not None and update == done:
                self._restore_random(resumed)
            for number, inputs in enumerate(samples):
                batch += 1
                last = batch % size == 0 or batch == total
                self._substep(model, inputs, count, first=(batch - 1) % size == 0, last=number == len(samples) - 1)
                if last:
                    norm, rate = self._update(model)
                    self.state.epoch = epoch + batch / total
                    self.notify("on_step_end")
                    self._maybe_log_save_evaluate(
                        self._loss, norm, model, None, epoch, None, self._start_time, learning_rate=rate
                    )
                else:
                    self.notify("on_substep_end")
                if self.control.should_epoch_stop or self.control.should_training_stop:
                    break
            if not samples or self.control.should_epoch_stop or self.control.should_training_stop:
                break
        self.control.should_training_stop |= batch == 0
        self.notify("on_epoch_end")
        self._maybe_log_save_evaluate(self._loss, norm, model, None, epoch, None, self._start_time, learning_rate=rate)

    def _substep(self, model: Any, inputs: Any, count: Any, *, first: bool, last: bool) -> None:
        """Add the gradient of a batch, and its loss to the sum since the last log."""
        self.accelerator.gradient_state._set_sync_gradients(last)
        if first:
            self.notify("on_step_begin")
        with nullcontext() if last else self.accelerator.no_sync(model=model):
            loss = self.training_step(model, inputs, count)
        if self.args.logging_nan_inf_filter and not self._is_finite(loss):
            self._loss += self._loss / (1 + self.state.global_step - self._logged_step)
        else:
            self._loss += loss
        self.current_flos += float(self.floating_point_ops(inputs))

    def _update(self, model: Any) -> tuple[Any, float]:
        """Do an optimizer step; returns the norm of the gradient, and the learning rate of the step."""
        norm = self._clip_grad_norm(model) if self.args.max_grad_norm > 0 else None
        self.notify("on_pre_optimizer_step")
        self.optimizer.step()
        self.notify("on_optimizer_step")
        rate = self._get_learning_rate()
        if not self.accelerator.optimizer_step_was_skipped:
            self.lr_scheduler.step()
        model.zero_grad()
        self.state.global_step += 1
        return norm, rate

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, epoch: Any, ignore_keys_for_eval: Any,
        start_time: float, learning_rate: float | None = None,
    ) -> None:  # fmt: skip
        """Log, evaluate and save as callbacks requested."""
        if self.control.should_log and self.state.global_step > self._logged_step:
            loss = float(tr_loss)
            tr_loss.zero_()
            logs = {"loss": loss / (self.state.global_step - self._logged_step)}
            logs |= {} if grad_norm is None else {"grad_norm": float(grad_norm)}
            logs["learning_rate"] = self._get_learning_rate() if learning_rate is None else learning_rate
            self._total_loss += loss
            self._logged_step = self.state.global_step
            self.log(logs, start_time)
        if self.control.should_evaluate:
            better = self._determine_best_metric(self._evaluate(trial, ignore_keys_for_eval), trial)
            if self.args.save_strategy == "best":
                self.control.should_save = better
        if self.control.should_save:
            self._save_checkpoint(model, trial)
            self._after_save()

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        """Evaluate while training."""
        return self.evaluate(ignore_keys=ignore_keys_for_eval)

    def _finish(self) -> TrainOutput:
        """Log the measurements of the run and return them."""
        self._total_loss += float(self._loss)
        steps = self.state.global_step - self._start_step
        loss = self._total_loss / max(steps, 0.001)
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * steps
        self.state.total_flos = self.current_flos
        metrics = speed_metrics("train", self._start_time, rows, steps)
        metrics |= {"total_flos": self.state.total_flos, "train_loss": loss}
        self.log(metrics)
        if self.args.load_best_model_at_end:
            self._load_best_model()
        self.notify("on_train_end")
        self.uploads.wait()
        return TrainOutput(self.state.global_step, loss, metrics)
