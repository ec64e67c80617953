"""Training loop: epochs, steps, and the logs, evaluations and checkpoints that callbacks request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import InvalidInput, TrainingDiverged, UnsupportedOption
from .callbacks import is_better, metric_value
from .checkpointing.folders import add_to_manifest, newest_valid
from .checkpointing.saver import CheckpointSaver
from .data.features import Example
from .data.sampler import EpochSampler
from .optim.optimizer_step import Stepper, StepResult
from .optim.optimizers import all_finite
from .session import TrainingSession
from .signals import Signals

IDLE_STEPS = 5  # number of first steps without a loss and a gradient after which a run ends


class TrainOutput(NamedTuple):
    """Result of `Trainer.train`: number of steps, mean loss, and measurements."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class TrainingRun:
    """Call of `Trainer.train`, from the current state to the end."""

    def __init__(
        self, trainer: TrainingSession, saver: CheckpointSaver, features: Any, sampler: EpochSampler, stepper: Stepper,
        signals: Signals,
    ) -> None:  # fmt: skip
        self.trainer, self.saver, self.signals = trainer, saver, signals
        self.features, self.sampler, self.stepper = features, sampler, stepper
        self.start_time = self.log_time = time.perf_counter()
        self.unlogged: list[StepResult] = []
        self.idle = not trainer.state.global_step and not trainer.job.uses_padding  # a custom loss may be 0
        self.start_step, self.start_tokens = trainer.state.global_step, trainer.state.num_input_tokens_seen

    def run(self) -> TrainOutput:
        """Train to the end."""
        trainer, state = self.trainer, self.trainer.state
        trainer.notify("on_train_begin")
        if trainer.args.eval_on_start and not state.global_step:
            trainer.evaluate()
        epoch, done = self._position(min(state.global_step, state.max_steps))
        while state.global_step < state.max_steps and not trainer.control.should_training_stop:
            trainer.notify("on_epoch_begin")
            self._epoch(epoch, done)
            epoch, done = epoch + 1, 0
            trainer.notify("on_epoch_end")
            self._handle_control()
        return self._end()

    def _position(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step and its number in the epoch."""
        epoch = 0
        while step >= self.sampler.count(epoch):
            step -= self.sampler.count(epoch)
            epoch += 1
        return epoch, step

    def _epoch(self, epoch: int, done: int) -> None:
        trainer, state = self.trainer, self.trainer.state
        steps = self.sampler.steps(epoch)
        for number in range(done, len(steps)):
            trainer.notify("on_step_begin")
            self._step(epoch, steps[number])
            state.epoch = epoch + (number + 1) / len(steps)
            trainer.notify("on_step_end")
            self._handle_control()
            self._handle_signal()
            if trainer.control.should_epoch_stop or trainer.control.should_training_stop:
                break

    def _step(self, epoch: int, batches: Sequence[Sequence[int]]) -> None:
        trainer, state = self.trainer, self.trainer.state
        seed = trainer.args.order_seed

        def prepare(n: int) -> Example:
            return trainer.objective.prepare_example(self.features[n], (seed, epoch, n))

        local = [[prepare(n) for n in numbers] for numbers in trainer.parallel.local_batches(batches)]
        try:
            result = self.stepper.run(state.global_step, local, lambda: prepare(batches[0][0]))
        except TrainingDiverged as error:
            raise self._diverged(error, batches) from error
        state.global_step += 1
        state.num_input_tokens_seen += result.tokens
        self._check_idle(result)
        self.unlogged.append(result)
        self.saver.losses.add(result.loss)

    def _check_idle(self, result: StepResult) -> None:
        """Raise InvalidInput if the first steps have neither a loss nor a gradient, so that nothing is learned."""
        self.idle = self.idle and result.loss == result.grad_norm == 0 and not result.skipped
        steps = self.trainer.state.global_step
        if self.idle and steps >= min(IDLE_STEPS, self.trainer.state.max_steps):
            raise InvalidInput(
                f"Nothing is learned: the loss ({self.trainer.objective.describe(self.features)}) and its gradient "
                f"were 0 in the first {steps} steps. A batch of one pair has no other pair to compare with: raise "
                "per_device_train_batch_size. Otherwise check the labels, and which parameters are frozen."
            )

    def _diverged(self, error: TrainingDiverged, batches: Sequence[Sequence[int]]) -> TrainingDiverged:
        """Return the error with the rows of the batch, after saving the state before the step."""
        rows = [self.trainer.job.location(self.features, n) for batch in batches for n in batch]
        saved = self._save_good_state()
        shown = ", ".join(rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
        return TrainingDiverged(
            f"{str(error).rstrip('.')}. Its batch was {shown}. {saved}. Check these rows; lower learning_rate or "
            "max_grad_norm, or train in float32."
        )

    def _save_good_state(self) -> str:
        """Save the state before this step if its weights are finite; returns a sentence on the last good checkpoint."""
        trainer = self.trainer
        if not trainer.process_group.max(int(not all_finite(trainer.model))):
            return f"The last good state is saved in {self.saver.save_checkpoint()}"
        last = newest_valid(trainer.checkpoints.of_this_run())
        last_good = f"the last good state is {last}" if last else "there is no earlier checkpoint"
        return f"The weights are not finite since an earlier step; {last_good}"

    def _handle_control(self) -> None:
        """Log, evaluate and save as callbacks requested."""
        trainer, control = self.trainer, self.trainer.control
        if control.should_log and self.unlogged:
            self._log()
        if control.should_evaluate:
            self._evaluate()
        if trainer.control.should_save:
            self._save()
        control.should_log = control.should_evaluate = control.should_save = False

    def _save(self) -> None:
        """Write a checkpoint, with the files that callbacks add."""
        path = self.saver.save_checkpoint()
        self.trainer.notify("on_save")
        self.trainer.process_group.barrier()
        if self.trainer.process_group.is_first:
            add_to_manifest(path)
        self.trainer.uploads.checkpoint(path)

    def _evaluate(self) -> None:
        trainer, state, args = self.trainer, self.trainer.state, self.trainer.args
        start = time.perf_counter()
        metrics = trainer.evaluate()
        value = metric_value(args, metrics)
        if args.metric_for_best_model is not None and value is None:
            names = ", ".join(sorted(metrics))
            raise UnsupportedOption(f"metric_for_best_model {args.metric_for_best_model!r} is none of {names}.")
        if is_better(args, value, state.best_metric):
            state.best_metric, state.best_global_step = value, state.global_step
        self.log_time += time.perf_counter() - start

    def _log(self) -> None:
        trainer, state = self.trainer, self.trainer.state
        now, tokens = time.perf_counter(), sum(result.tokens for result in self.unlogged)
        logs = {
            "loss": self.saver.losses.take_mean(),
            "grad_norm": self.unlogged[-1].grad_norm,
            "learning_rate": self.unlogged[-1].learning_rate,
            "num_input_tokens_seen": state.num_input_tokens_seen,
            "tokens_per_second": tokens / max(now - self.log_time, 1e-9),
        }
        self.unlogged, self.log_time = [], now
        trainer.log(logs)

    def _handle_signal(self) -> None:
        """Save and stop if any process received a signal. Raises SystemExit or KeyboardInterrupt."""
        number = int(self.trainer.process_group.max(self.signals.number or 0))
        if not number:
            return
        if self.trainer.args.save_strategy != "no":
            self._save()
        self.signals.leave(number)

    def _end(self) -> TrainOutput:
        trainer, state = self.trainer, self.trainer.state
        if self.unlogged:
            self._log()
        steps, seconds = state.global_step - self.start_step, time.perf_counter() - self.start_time
        tokens = state.num_input_tokens_seen - self.start_tokens
        loss = self.saver.losses.mean
        if trainer.args.load_best_model_at_end:
            self.saver.load_best()
        metrics = {
            "train_runtime": round(seconds, 4), "train_steps_per_second": round(steps / max(seconds, 1e-9), 3),
            "train_tokens_per_second": round(tokens / max(seconds, 1e-9), 1), "train_loss": loss,
        }  # fmt: skip
        trainer.log(metrics)
        trainer.notify("on_train_end")
        trainer.uploads.wait()
        return TrainOutput(state.global_step, loss, metrics)
