"""Enumerations of option values. A member equals its value, so that every option takes either."""

from __future__ import annotations

from enum import Enum
from typing import Any


class ExplicitEnum(str, Enum):
    """Strings by name; a value that is none of them is an error that lists them."""

    @classmethod
    def _missing_(cls, value: Any) -> Any:
        known = ", ".join(repr(member.value) for member in cls)
        raise ValueError(f"{value!r} is no {cls.__name__}; those are {known}.")


class SchedulerType(ExplicitEnum):
    """Values of `lr_scheduler_type`."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"
    REDUCE_ON_PLATEAU = "reduce_lr_on_plateau"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"
    COSINE_WARMUP_WITH_MIN_LR = "cosine_warmup_with_min_lr"
    WARMUP_STABLE_DECAY = "warmup_stable_decay"
    GREEDY = "greedy"


class IntervalStrategy(ExplicitEnum):
    """Values of `eval_strategy` and `logging_strategy`."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"


class SaveStrategy(ExplicitEnum):
    """Values of `save_strategy`."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
    BEST = "best"


class HubStrategy(ExplicitEnum):
    """Values of `hub_strategy`."""

    END = "end"
    EVERY_SAVE = "every_save"
    CHECKPOINT = "checkpoint"
    ALL_CHECKPOINTS = "all_checkpoints"


class HPSearchBackend(ExplicitEnum):
    """Packages that search hyperparameters."""

    OPTUNA = "optuna"
    RAY = "ray"
    WANDB = "wandb"


class PaddingStrategy(ExplicitEnum):
    """Values of a tokenizer's `padding`."""

    LONGEST = "longest"
    MAX_LENGTH = "max_length"
    DO_NOT_PAD = "do_not_pad"


class TruncationStrategy(ExplicitEnum):
    """Values of a tokenizer's `truncation`."""

    ONLY_FIRST = "only_first"
    ONLY_SECOND = "only_second"
    LONGEST_FIRST = "longest_first"
    DO_NOT_TRUNCATE = "do_not_truncate"


class TensorType(ExplicitEnum):
    """Values of `return_tensors`; "pt" and "np" are computed here."""

    PYTORCH = "pt"
    NUMPY = "np"
    MLX = "mlx"


class ParallelMode(Enum):
    """Kinds of devices of a training run."""

    NOT_PARALLEL = "not_parallel"
    NOT_DISTRIBUTED = "not_distributed"
    DISTRIBUTED = "distributed"
