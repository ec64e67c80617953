"""Learning rate schedules as functions of an optimizer, for training loops of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ..errors import InvalidInput, UnsupportedOption
from ..training.optim import optimizers as factors
from .enums import SchedulerType

Steps = int


def get_constant_schedule(optimizer: Optimizer, last_epoch: int = -1) -> LambdaLR:
    """Return a schedule with one learning rate."""
    return LambdaLR(optimizer, lambda step: 1.0, last_epoch)


def get_constant_schedule_with_warmup(optimizer: Optimizer, num_warmup_steps: Steps, last_epoch: int = -1) -> LambdaLR:
    """Return a schedule that rises linearly, then stays."""
    return LambdaLR(optimizer, factors.constant_with_warmup(0, num_warmup_steps), last_epoch)


def get_linear_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: Steps, num_training_steps: Steps, last_epoch: int = -1
) -> LambdaLR:
    """Return a schedule that rises linearly, then falls linearly to 0."""
    return LambdaLR(optimizer, factors.linear(num_training_steps, num_warmup_steps), last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: Steps,
    num_training_steps: Steps,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """Return a schedule that rises linearly, then follows a cosine; half a cycle falls to 0."""
    return LambdaLR(optimizer, factors.cosine(num_training_steps, num_warmup_steps, num_cycles), last_epoch)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: Steps, num_training_steps: Steps, num_cycles: int = 1, last_epoch: int = -1
) -> LambdaLR:
    """Return a schedule that rises linearly, then falls along a cosine `num_cycles` times."""
    factor = factors.cosine_with_restarts(num_training_steps, num_warmup_steps, num_cycles)
    return LambdaLR(optimizer, factor, last_epoch)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: Steps,
    num_training_steps: Steps,
    lr_end: float = 1e-7,
    power: float = 1.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """Return a schedule that rises linearly, then falls to the rate `lr_end` along a power.

    Raises:
        InvalidInput: `lr_end` is not below the optimizer's learning rate.
    """
    rate = optimizer.defaults["lr"]
    if not rate > lr_end:
        raise InvalidInput(f"lr_end is {lr_end}; it must be below the learning rate, {rate}.")
    factor = factors.polynomial(num_training_steps, num_warmup_steps, power, lr_end / rate)
    return LambdaLR(optimizer, factor, last_epoch)


def get_inverse_sqrt_schedule(
    optimizer: Optimizer, num_warmup_steps: Steps, timescale: int | None = None, last_epoch: int = -1
) -> LambdaLR:
    """Return a schedule that rises linearly, then falls with the inverse square root of the step."""
    return LambdaLR(optimizer, factors.inverse_sqrt(0, num_warmup_steps, timescale), last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: Steps,
    num_training_steps: Steps,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LambdaLR:
    """Return a schedule that rises linearly, then follows a cosine down to a least rate.

    Args:
        min_lr, min_lr_rate: the least rate itself, or its share of the learning rate.
    """
    least = least_share(optimizer, min_lr, min_lr_rate)
    factor = factors.cosine_with_min_lr(num_training_steps, num_warmup_steps, least, num_cycles)
    return LambdaLR(optimizer, factor, last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    optimizer: Optimizer,
    num_warmup_steps: Steps,
    num_training_steps: Steps,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> LambdaLR:
    """Return a cosine schedule with a least rate whose warmup begins at a rate above 0.

    Args:
        min_lr, min_lr_rate: the least rate itself, or its share of the learning rate.
        warmup_lr_rate: share of the learning rate at step 0; without it the warmup rises from one step's part.
    """
    least = least_share(optimizer, min_lr, min_lr_rate)
    rise = max(1.0, num_warmup_steps)

    def factor(step: float) -> float:
        if step < num_warmup_steps:
            if warmup_lr_rate is None:
                return (step + 1) / rise
            return warmup_lr_rate + (1 - warmup_lr_rate) * step / max(1, num_warmup_steps - 1)
        done = (step - num_warmup_steps + 1) / max(1, num_training_steps - num_warmup_steps)
        height = 0.5 * (1 + math.cos(math.pi * num_cycles * 2.0 * done))
        return max(0.0, height * (1 - least) + least)

    return LambdaLR(optimizer, factor, last_epoch)


def get_wsd_schedule(
    optimizer: Optimizer,
    num_warmup_steps: Steps,
    num_decay_steps: Steps,
    num_training_steps: Steps | None = None,
    num_stable_steps: Steps | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    """Return a schedule that rises, stays, and falls (arXiv:2404.06395).

    Args:
        num_training_steps, num_stable_steps: one of them; the other follows, and num_stable_steps goes before.

    Raises:
        InvalidInput: neither of them.
    """
    if num_training_steps is None and num_stable_steps is None:
        raise InvalidInput("Give num_training_steps or num_stable_steps: one says when the rate begins to fall.")
    stable = num_stable_steps  # which goes before the total
    if stable is None:
        stable = (num_training_steps or 0) - num_warmup_steps - num_decay_steps
    total = num_warmup_steps + stable + num_decay_steps
    factor = factors.warmup_stable_decay(
        total, num_warmup_steps, num_decay_steps, stable, warmup_type, decay_type, min_lr_ratio, num_cycles
    )
    return LambdaLR(optimizer, factor, last_epoch)


def get_reduce_on_plateau_schedule(optimizer: Optimizer, **options: Any) -> ReduceLROnPlateau:
    """Return torch's schedule that lowers the rate when a metric stops to improve."""
    return ReduceLROnPlateau(optimizer, **options)


def least_share(optimizer: Optimizer, min_lr: float | None, min_lr_rate: float | None) -> float:
    """Return the least rate as a share of the learning rate. Raises InvalidInput for both or neither."""
    if (min_lr is None) == (min_lr_rate is None):
        raise InvalidInput("Give either min_lr, a rate, or min_lr_rate, its share of the learning rate.")
    return float(min_lr / optimizer.defaults["lr"]) if min_lr is not None else float(min_lr_rate or 0.0)


SCHEDULES: Mapping[SchedulerType, tuple[Callable[..., LRScheduler], str]] = {  # -> (function, the steps that it needs)
    SchedulerType.LINEAR: (get_linear_schedule_with_warmup, "both"),
    SchedulerType.COSINE: (get_cosine_schedule_with_warmup, "both"),
    SchedulerType.COSINE_WITH_RESTARTS: (get_cosine_with_hard_restarts_schedule_with_warmup, "both"),
    SchedulerType.POLYNOMIAL: (get_polynomial_decay_schedule_with_warmup, "both"),
    SchedulerType.CONSTANT: (get_constant_schedule, "none"),
    SchedulerType.CONSTANT_WITH_WARMUP: (get_constant_schedule_with_warmup, "warmup"),
    SchedulerType.INVERSE_SQRT: (get_inverse_sqrt_schedule, "warmup"),
    SchedulerType.REDUCE_ON_PLATEAU: (get_reduce_on_plateau_schedule, "none"),
    SchedulerType.COSINE_WITH_MIN_LR: (get_cosine_with_min_lr_schedule_with_warmup, "both"),
    SchedulerType.COSINE_WARMUP_WITH_MIN_LR: (get_cosine_with_min_lr_schedule_with_warmup_lr_rate, "both"),
    SchedulerType.WARMUP_STABLE_DECAY: (get_wsd_schedule, "optional"),
}


def get_scheduler(
    name: str | SchedulerType,
    optimizer: Optimizer,
    num_warmup_steps: Steps | None = None,
    num_training_steps: Steps | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LRScheduler:
    """Return a schedule by its name.

    Args:
        scheduler_specific_kwargs: options of this schedule alone, such as `num_cycles`.

    Raises:
        ValueError: an unknown name. InvalidInput: a number of steps is missing that the schedule needs.
        UnsupportedOption: "greedy".
    """
    kind = SchedulerType(name)
    if kind not in SCHEDULES:
        raise UnsupportedOption(f"The schedule {kind.value!r} is not computed here; choose another one.")
    make, needs = SCHEDULES[kind]
    options = dict(scheduler_specific_kwargs or {})
    given = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    needed = {"none": (), "warmup": ("num_warmup_steps",), "optional": ("num_warmup_steps",)}.get(needs, tuple(given))
    for step in needed:
        if given[step] is None:
            raise InvalidInput(f"The schedule {kind.value!r} needs {step}.")
        options[step] = given[step]
    if needs == "optional":
        options["num_training_steps"] = num_training_steps
    if kind in (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP):
        options = {step: given[step] for step in needed}  # other options are of no meaning, as in the reference
    return make(optimizer, **options)
