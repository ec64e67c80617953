"""One call of `Trainer.train`: epochs and steps, and what callbacks ask for between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidInput, TrainingDiverged, UnsupportedOption
from .callbacks import better, watched
from .checkpointing.folders import admit, whole
from .data.sampler import Order
from .objectives.packed_batch import Example
from .optim.optimizer_step import Stepper, Taken
from .optim.optimizers import finite
from .signals import Signals

if TYPE_CHECKING:
    from .trainer import Trainer


IDLE = 5  # first steps without a loss and a gradient that end a run


class TrainOutput(NamedTuple):
    """What `Trainer.train` gives: steps taken, the mean loss of them, and what was measured."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Run:
    """One call of `Trainer.train`, from where its state says to the end."""

    def __init__(self, trainer: Trainer, features: Any, order: Order, stepper: Stepper, signals: Signals) -> None:
        self.trainer, self.features, self.order, self.stepper, self.signals = trainer, features, order, stepper, signals
        self.began = self.logged_at = time.perf_counter()
        self.since: list[Taken] = []
        self.idle = not trainer.state.global_step and not trainer.job.padded  # a caller's own loss may be any
        self.losses, self.first, self.read = (
            trainer.saver.losses, trainer.state.global_step, trainer.state.num_input_tokens_seen
        )  # fmt: skip

    def go(self) -> TrainOutput:
        trainer, state = self.trainer, self.trainer.state
        trainer._tell("on_train_begin")
        if trainer.args.eval_on_start and not state.global_step:
            trainer.evaluate()
        epoch, done = self._where(min(state.global_step, state.max_steps))
        while state.global_step < state.max_steps and not trainer.control.should_training_stop:
            trainer._tell("on_epoch_begin")
            self._epoch(epoch, done)
            epoch, done = epoch + 1, 0
            trainer._tell("on_epoch_end")
            self._asked()
        return self._end()

    def _where(self, step: int) -> tuple[int, int]:
        """The epoch and the step of it that come next."""
        epoch = 0
        while step >= self.order.count(epoch):
            step -= self.order.count(epoch)
            epoch += 1
        return epoch, step

    def _epoch(self, epoch: int, done: int) -> None:
        trainer, state = self.trainer, self.trainer.state
        steps = self.order.steps(epoch)
        for number in range(done, len(steps)):
            trainer._tell("on_step_begin")
            self._step(epoch, steps[number])
            state.epoch = epoch + (number + 1) / len(steps)
            trainer._tell("on_step_end")
            self._asked()
            self._signalled()
            if trainer.control.should_epoch_stop or trainer.control.should_training_stop:
                break

    def _step(self, epoch: int, batches: Sequence[Sequence[int]]) -> None:
        trainer, state = self.trainer, self.trainer.state
        seed = trainer.args.order_seed

        def ready(n: int) -> Example:
            return trainer.objective.ready(self.features[n], (seed, epoch, n))

        mine = [[ready(n) for n in numbers] for numbers in trainer.parallel.share(batches)]
        try:
            taken = self.stepper.take(state.global_step, mine, lambda: ready(batches[0][0]))
        except TrainingDiverged as error:
            raise self._diverged(error, batches) from error
        state.global_step += 1
        state.num_input_tokens_seen += taken.tokens
        self._learns(taken)
        self.since.append(taken)
        self.losses.add(taken.loss)

    def _learns(self, taken: Taken) -> None:
        """Raises InvalidInput where the first steps have neither a loss nor a gradient, so that nothing is learned."""
        self.idle = self.idle and taken.loss == taken.norm == 0 and not taken.skipped
        steps = self.trainer.state.global_step
        if self.idle and steps >= min(IDLE, self.trainer.state.max_steps):
            raise InvalidInput(
                f"Nothing is learned: the loss ({self.trainer.objective.told(self.features)}) and its gradient were 0 "
                f"in the first {steps} steps. A batch of one pair has nothing to be told apart from: raise "
                "per_device_train_batch_size. Else look at the labels, and at what is frozen."
            )

    def _diverged(self, error: TrainingDiverged, batches: Sequence[Sequence[int]]) -> TrainingDiverged:
        """The error with the rows that were read; the state before them is kept."""
        trainer = self.trainer
        rows = [trainer.job.where(self.features, n) for batch in batches for n in batch]
        kept = self._last_good()
        shown = ", ".join(rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
        return TrainingDiverged(
            f"{str(error).rstrip('.')}. Its batch was {shown}. {kept}. Look at these rows; lower learning_rate or "
            "max_grad_norm, or train in float32."
        )

    def _last_good(self) -> str:
        """Keeps the state before this step, unless its weights are no numbers already; says where a good one is."""
        trainer = self.trainer
        if not trainer.world.most(int(not finite(trainer.model))):
            return f"The last good state is kept in {trainer.saver.checkpoint()}"
        last = whole(trainer.checkpoints.own())
        where = f"the last good state is {last}" if last else "there is no earlier checkpoint"
        return f"The weights are no finite numbers since an earlier step; {where}"

    def _asked(self) -> None:
        """Does what callbacks asked for."""
        trainer, control = self.trainer, self.trainer.control
        if control.should_log and self.since:
            self._log()
        if control.should_evaluate:
            self._evaluate()
        if trainer.control.should_save:
            self._save()
        control.should_log = control.should_evaluate = control.should_save = False

    def _save(self) -> None:
        """A checkpoint, with what callbacks put beside it."""
        path = self.trainer.saver.checkpoint()
        self.trainer._tell("on_save")
        self.trainer.world.wait()
        if self.trainer.world.first:
            admit(path)

    def _evaluate(self) -> None:
        trainer, state, args = self.trainer, self.trainer.state, self.trainer.args
        began = time.perf_counter()
        metrics = trainer.evaluate()
        value = watched(args, metrics)
        if args.metric_for_best_model is not None and value is None:
            names = ", ".join(sorted(metrics))
            raise UnsupportedOption(f"metric_for_best_model {args.metric_for_best_model!r} is none of {names}.")
        if better(args, value, state.best_metric):
            state.best_metric, state.best_global_step = value, state.global_step
        self.logged_at += time.perf_counter() - began

    def _log(self) -> None:
        trainer, state = self.trainer, self.trainer.state
        now, tokens = time.perf_counter(), sum(taken.tokens for taken in self.since)
        logs = {
            "loss": self.losses.reported(),
            "grad_norm": self.since[-1].norm,
            "learning_rate": self.since[-1].rate,
            "num_input_tokens_seen": state.num_input_tokens_seen,
            "tokens_per_second": tokens / max(now - self.logged_at, 1e-9),
        }
        self.since, self.logged_at = [], now
        trainer.log(logs)

    def _signalled(self) -> None:
        """Saves and stops where the process was asked to end. Raises SystemExit or KeyboardInterrupt."""
        found = int(self.trainer.world.most(self.signals.number or 0))
        if not found:
            return
        trainer = self.trainer
        if trainer.args.save_strategy != "no":
            self._save()
        self.signals.leave(found)

    def _end(self) -> TrainOutput:
        trainer, state = self.trainer, self.trainer.state
        if self.since:
            self._log()
        taken, seconds = state.global_step - self.first, time.perf_counter() - self.began
        tokens = state.num_input_tokens_seen - self.read
        loss = self.losses.mean
        if trainer.args.load_best_model_at_end:
            trainer.saver.best()
        metrics = {
            "train_runtime": round(seconds, 4), "train_steps_per_second": round(taken / max(seconds, 1e-9), 3),
            "train_tokens_per_second": round(tokens / max(seconds, 1e-9), 1), "train_loss": loss,
        }  # fmt: skip
        trainer.log(metrics)
        trainer._tell("on_train_end")
        return TrainOutput(state.global_step, loss, metrics)
