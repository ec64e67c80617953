"""One optimizer step: batches in, weights changed, with the gradient of the mean over all their losses."""

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
from ..distributed.dtensor import clipped
from ..distributed.expert_gradients import Experts
from ..distributed.fsdp import is_sharded
from ..distributed.parallel import exchanging
from ..distributed.process_group import World
from ..objectives import grad_cache as joint
from ..objectives.packed_batch import Example, pieces
from ..objectives.token import Objective
from .optimizers import Average, learning, place


@dataclass(frozen=True)
class Taken:
    """What a step was.

    Args:
        loss: the mean over all losses of all devices. norm: of the gradient before it was clipped.
        rate: the learning rate, of the first group. tokens: that all devices read.
        skipped: whether weights stayed, since float16 gradients overflowed.
    """

    loss: float
    norm: float
    rate: float
    tokens: int
    skipped: bool = False


class Stepper:
    """Takes optimizer steps.

    The batches of a step count as one: each loss is divided by the count of all of them, on all devices, so that
    accumulation, uneven batches and passes of bounded size give the gradient of the one big batch.

    Args:
        objective: what is computed. wrapped: the same within what makes it parallel or compiled.
        scheduler: the learning rates at each step. world: the devices that read batches of their own.
        tell: hears `on_substep_end`, `on_pre_optimizer_step` and `on_optimizer_step` at their moments.
    """

    def __init__(
        self,
        objective: Objective,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR,
        arguments: TrainingArguments,
        world: World,
        average: Average | None = None,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.objective, self.wrapped, self.optimizer, self.scheduler = objective, wrapped, optimizer, scheduler
        self.arguments, self.world, self.average, self.tell = arguments, world, average, tell
        self.experts = Experts(objective.model) if world.size > 1 else None
        self.scaler = torch.amp.GradScaler(objective.device.type) if arguments.fp16 else None

    def take(
        self, step: int, batches: Sequence[Sequence[Example]], spare: Callable[[], Example] | None = None
    ) -> Taken:
        """One step over this process's batches.

        Args:
            spare: gives an example that can be computed for nothing where other devices have more to do.

        Raises:
            TrainingDiverged: the loss or the gradient is no finite number; weights are as they were.
        """
        self.objective.train()
        place(self.scheduler, step)
        parts = [self._parts(examples) for examples in batches]
        passes = [self.objective.collate(part) for batch in parts for part in batch]
        sizes = [sum(map(self.objective.size, examples)) for examples in batches]
        counted = torch.tensor([sum(map(self.objective.count, passes)), sum(sizes)], dtype=torch.float64)
        count, tokens = self.world.total(counted.to(self.objective.device)).tolist()
        ends = set(accumulate(map(len, parts)))
        idle = self._idle(len(passes), spare)
        together = self.objective.joint and (self.world.size > 1 or len(passes) > 1)
        loss = (self._jointly if together else self._backward)(idle, passes, ends, max(count, 1.0))
        return self._apply(step, loss, int(tokens))

    def _parts(self, examples: Sequence[Example]) -> list[list[Example]]:
        """A batch in passes of bounded size, where its loss is a sum over its examples."""
        if not self.objective.splits:
            return [list(examples)]
        sizes = [self.objective.size(example) for example in examples]
        return list(pieces(examples, sizes, self.arguments.max_tokens_per_pass))

    def _idle(self, passes: int, spare: Callable[[], Example] | None) -> list[Any]:
        """Passes that count nothing: a device takes part in every exchange, also where it has less to compute.

        Whole copies exchange in the last pass of a step only, sharded ones in all.
        """
        if self.world.size == 1:
            return []
        wanted = int(self.world.most(passes)) if is_sharded(self.wrapped) else 1
        if passes >= wanted or spare is None:
            return []
        return [self.objective.collate([spare()])] * (wanted - passes)

    def _backward(self, idle: Sequence[Any], passes: Sequence[Any], ends: Set[int], count: float) -> float:
        """Adds up gradients; gradients of other devices join in the last pass.

        Args:
            ends: passes with which a batch ends, counted from 1.
        """
        total = torch.zeros((), dtype=torch.float32, device=self.objective.device)
        for number, batch in enumerate([*idle, *passes], 1 - len(idle)):
            with exchanging(self.wrapped, number == len(passes)):
                with precision(self.arguments, self.objective.device):
                    loss, _ = self.wrapped(batch)
                loss = loss * 0.0 if number <= 0 else loss
                total += loss.detach()
                scaled = loss * (self.world.size / count)  # those of all devices are averaged
                (scaled if self.scaler is None else self.scaler.scale(scaled)).backward()
            if number == 0 and self.experts is not None:
                self.experts.forget()
            if number in ends and number < len(passes):
                self.tell("on_substep_end")
        return float(self.world.total(total)) / count

    def _jointly(self, idle: Sequence[Any], passes: Sequence[Any], ends: Set[int], count: float) -> float:
        """As `_backward`, where the loss compares all examples of the step; see `joint`."""

        def run(batch: Any, with_: nn.Module = self.wrapped) -> Any:
            with precision(self.arguments, self.objective.device):
                return with_(batch)

        whole = self.wrapped if is_sharded(self.wrapped) else self.objective  # no exchange without gradients
        total, parts = joint.parts(self.objective, lambda batch: run(batch, whole), idle, passes, self.world)
        for number, part in enumerate(parts, 1 - len(idle)):
            with exchanging(self.wrapped, number == len(passes)):
                scaled = part(run) * (self.world.size / count)
                (scaled if self.scaler is None else self.scaler.scale(scaled)).backward()
            if number == 0 and self.experts is not None:
                self.experts.forget()
            if number in ends and number < len(passes):
                self.tell("on_substep_end")
        return float(total) / count

    def _apply(self, step: int, loss: float, tokens: int) -> Taken:
        parameters = [p for _, p in learning(self.objective.model)]
        if self.experts is not None:
            self.experts.rest(self.world)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = float(clipped(parameters, self.arguments.max_grad_norm))
        if not math.isfinite(loss) or (self.scaler is None and not math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise TrainingDiverged(f"The {what} of step {step + 1} is {loss if what == 'loss' else norm}.")
        self.tell("on_pre_optimizer_step")
        before = None if self.scaler is None else self.scaler.get_scale()
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.tell("on_optimizer_step")
        rate = float(self.optimizer.param_groups[0]["lr"])
        place(self.scheduler, step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        skipped = self.scaler is not None and self.scaler.get_scale() < (before or 0.0)
        if self.average is not None and not skipped:
            self.average.update(self.objective.model)
        return Taken(loss, norm, rate, tokens, skipped)


def precision(arguments: TrainingArguments, device: torch.device, *, evaluation: bool = False) -> Any:
    """Matrix products in half precision, where the settings ask for it."""
    half = torch.bfloat16 if arguments.bf16 or (evaluation and arguments.bf16_full_eval) else None
    half = torch.float16 if arguments.fp16 or (evaluation and arguments.fp16_full_eval) else half
    return torch.autocast(device.type, dtype=half) if half is not None else nullcontext()
