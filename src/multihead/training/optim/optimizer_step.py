"""Optimizer step over several batches, with the gradient of the mean over all their losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ...errors import TrainingDiverged
from ..arguments import TrainingArguments
from ..callbacks import Event
from ..data.features import Example
from ..distributed.dtensor import clip_gradients
from ..distributed.expert_gradients import ExpertGradients
from ..distributed.fsdp import is_sharded
from ..distributed.parallel import gradient_sync
from ..distributed.process_group import ProcessGroup
from ..objectives import grad_cache
from ..objectives.packed_batch import split_by_tokens
from ..objectives.token import Objective
from .optimizers import WeightAverage, set_scheduler_step, trainable_parameters


@dataclass(frozen=True)
class StepResult:
    """Result of an optimizer step.

    Args:
        loss: mean over all losses of all devices. grad_norm: norm of the gradient before clipping.
        learning_rate: of the first parameter group. tokens: number of tokens of all devices.
        skipped: float16 gradients overflowed, so the weights did not change.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    skipped: bool = False


class Stepper:
    """SequenceLayout optimizer steps.

    The batches of a step count as one batch: each loss is divided by the number of losses of all batches on all
    devices. So accumulation, uneven batches and passes of bounded size give the gradient of one big batch.

    Args:
        objective: computes the loss. wrapped: the objective inside its parallel or compiled wrapper.
        scheduler: learning rates. group: processes with different batches. average: updated after each step.
        notify: called with `on_substep_end`, `on_pre_optimizer_step` and `on_optimizer_step`.
    """

    def __init__(
        self,
        objective: Objective,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR,
        arguments: TrainingArguments,
        group: ProcessGroup,
        average: WeightAverage | None = None,
        notify: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.objective, self.wrapped, self.optimizer, self.scheduler = objective, wrapped, optimizer, scheduler
        self.arguments, self.group, self.average, self.notify = arguments, group, average, notify
        self.experts = ExpertGradients(objective.model) if group.size > 1 else None
        self.scaler = torch.amp.GradScaler(objective.device.type) if arguments.fp16 else None

    def run(
        self, step: int, batches: Sequence[Sequence[Example]], filler: Callable[[], Example] | None = None
    ) -> StepResult:
        """Run one step over the batches of this process.

        Args:
            filler: returns an example for idle passes, which a device needs if others have more passes.

        Raises:
            TrainingDiverged: the loss or the gradient is not finite; the weights are unchanged.
        """
        self.objective.train()
        set_scheduler_step(self.scheduler, step)
        parts = [self._split(examples) for examples in batches]
        passes = [self.objective.collate(part) for batch in parts for part in batch]
        sizes = [sum(map(self.objective.size, examples)) for examples in batches]
        counts = torch.tensor([sum(map(self.objective.count, passes)), sum(sizes)], dtype=torch.float64)
        count, tokens = self.group.sum(counts.to(self.objective.device)).tolist()
        ends = set(accumulate(map(len, parts)))
        idle = self._idle_passes(len(passes), filler)
        joint = self.objective.joint and (self.group.size > 1 or len(passes) > 1)
        loss = (self._backward_joint if joint else self._backward)(idle, passes, ends, max(count, 1.0))
        return self._apply(step, loss, int(tokens))

    def _split(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Split a batch into passes of bounded size, if its loss is a sum over examples."""
        if not self.objective.splittable:
            return [list(examples)]
        sizes = [self.objective.size(example) for example in examples]
        return list(split_by_tokens(examples, sizes, self.arguments.max_tokens_per_pass))

    def _idle_passes(self, passes: int, filler: Callable[[], Example] | None) -> list[Any]:
        """Return passes without weight in the loss, so that all devices take part in all collective operations.

        Full copies communicate in the last pass of a step only, sharded parameters in every pass.
        """
        if self.group.size == 1:
            return []
        needed = int(self.group.max(passes)) if is_sharded(self.wrapped) else 1
        if passes >= needed or filler is None:
            return []
        return [self.objective.collate([filler()])] * (needed - passes)

    def _backward(self, idle: Sequence[Any], passes: Sequence[Any], ends: Set[int], count: float) -> float:
        """Accumulate gradients, reduced over devices in the last pass; returns the mean loss.

        Args:
            ends: numbers of the last passes of batches, from 1. count: number of losses of the step.
        """
        total = torch.zeros((), dtype=torch.float32, device=self.objective.device)
        for number, batch in enumerate([*idle, *passes], 1 - len(idle)):
            with gradient_sync(self.wrapped, number == len(passes)):
                with autocast(self.arguments, self.objective.device):
                    loss, _ = self.wrapped(batch)
                loss = loss * 0.0 if number <= 0 else loss
                total += loss.detach()
                scaled = loss * (self.group.size / count)  # the reduction averages over devices
                (scaled if self.scaler is None else self.scaler.scale(scaled)).backward()
            if number == 0 and self.experts is not None:
                self.experts.reset()
            if number in ends and number < len(passes):
                self.notify("on_substep_end")
        return float(self.group.sum(total)) / count

    def _backward_joint(self, idle: Sequence[Any], passes: Sequence[Any], ends: Set[int], count: float) -> float:
        """Accumulate gradients of a loss that compares all examples of the step; see `grad_cache`."""

        def run(batch: Any, module: nn.Module = self.wrapped) -> Any:
            with autocast(self.arguments, self.objective.device):
                return module(batch)

        # the first passes have no gradients to reduce, so full copies run without the parallel wrapper
        inner = self.wrapped if is_sharded(self.wrapped) else self.objective
        total, repeated = grad_cache.joint_loss_passes(
            self.objective, lambda batch: run(batch, inner), idle, passes, self.group
        )
        for number, repeat in enumerate(repeated, 1 - len(idle)):
            with gradient_sync(self.wrapped, number == len(passes)):
                scaled = repeat(run) * (self.group.size / count)
                (scaled if self.scaler is None else self.scaler.scale(scaled)).backward()
            if number == 0 and self.experts is not None:
                self.experts.reset()
            if number in ends and number < len(passes):
                self.notify("on_substep_end")
        return float(total) / count

    def _apply(self, step: int, loss: float, tokens: int) -> StepResult:
        parameters = [p for _, p in trainable_parameters(self.objective.model)]
        if self.experts is not None:
            self.experts.drop_unused(self.group)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = float(clip_gradients(parameters, self.arguments.max_grad_norm))
        if not math.isfinite(loss) or (self.scaler is None and not math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise TrainingDiverged(f"The {what} of step {step + 1} is {loss if what == 'loss' else norm}.")
        self.notify("on_pre_optimizer_step")
        scale = None if self.scaler is None else self.scaler.get_scale()
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.notify("on_optimizer_step")
        rate = float(self.optimizer.param_groups[0]["lr"])
        set_scheduler_step(self.scheduler, step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        skipped = self.scaler is not None and self.scaler.get_scale() < (scale or 0.0)
        if self.average is not None and not skipped:
            self.average.update(self.objective.model)
        return StepResult(loss, norm, rate, tokens, skipped)


def autocast(arguments: TrainingArguments, device: torch.device, *, evaluation: bool = False) -> Any:
    """Return torch's autocast for bf16 or fp16 settings, or a null context."""
    half = torch.bfloat16 if arguments.bf16 or (evaluation and arguments.bf16_full_eval) else None
    half = torch.float16 if arguments.fp16 or (evaluation and arguments.fp16_full_eval) else half
    return torch.autocast(device.type, dtype=half) if half is not None else nullcontext()
