"""Optimizers over parameter groups, learning rate schedules and exponential moving averages of weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ...checkpoints.key_map import KeyMap
from ...errors import UnsupportedOption
from ...nn.own_names import own_modules, own_parameters
from ..arguments import TrainingArguments
from .adafactor import Adafactor
from .sparse_embeddings import AdamW

NamedParameter = tuple[str, nn.Parameter]


def trainable_parameters(model: nn.Module) -> list[NamedParameter]:
    """Return the parameters with requires_grad, by path."""
    return [(name, p) for name, p in own_parameters(model) if p.requires_grad]


def all_finite(model: nn.Module) -> bool:
    """Return whether all trainable parameters are finite, in this process's shards."""
    shards = (p.to_local() if hasattr(p, "to_local") else p for _, p in trainable_parameters(model))
    return all(bool(torch.isfinite(shard).all()) for shard in shards)


def no_decay_names(model: nn.Module) -> set[str]:
    """Return the paths of parameters without weight decay: biases (position biases included) and norm weights."""
    names = set()
    tables = {
        f"{path}." if path else "": keys
        for path, module in own_modules(model)
        if isinstance(keys := getattr(module, "keys", None), KeyMap)
    }
    for path, module in own_modules(model):
        is_norm = "norm" in type(module).__name__.lower()
        for leaf, _ in module.named_parameters(recurse=False):
            name = f"{path}.{leaf}" if path else leaf
            found = ((table, name.removeprefix(start)) for start, table in tables.items() if name.startswith(start))
            stored = next((table.locate(inner, "") for table, inner in found), None)
            if is_norm or "bias" in leaf or (stored is not None and "bias" in stored[1][0]):
                names.add(name)
    return names


def parameter_groups(model: nn.Module, arguments: TrainingArguments) -> list[dict[str, Any]]:
    """Return groups of parameters with equal weight decay and learning rate; `names` has their paths."""
    no_decay = no_decay_names(model)
    groups: dict[Any, dict[str, Any]] = {}
    depth = 1 + max(
        (int(n) for name, _ in trainable_parameters(model) for n in re.findall(r"layers\.(\d+)\.", name)), default=-1
    )
    for name, parameter in trainable_parameters(model):
        rate = _rate(name, depth, arguments)
        decay = 0.0 if name in no_decay else arguments.weight_decay
        mesh = getattr(parameter, "device_mesh", None)  # torch demands groups with one mesh
        group = groups.setdefault((decay, rate, mesh), {"params": [], "names": [], "weight_decay": decay, "lr": rate})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _rate(name: str, depth: int, arguments: TrainingArguments) -> float:
    """Return the learning rate of a parameter, smaller with each layer below the head (Howard and Ruder, 2018)."""
    base, factor = arguments.learning_rate, arguments.layerwise_lr_decay
    if name.startswith("head.") or ".head." in name:
        return base if arguments.head_learning_rate is None else arguments.head_learning_rate
    layer = re.search(r"layers\.(\d+)\.", name)
    below = depth - int(layer.group(1)) if layer else depth + 1 if ".embed." in name else 1
    return base * factor**below if factor != 1.0 else base


def create_optimizer(model: nn.Module, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """Build the optimizer that the arguments name. Raises UnsupportedOption if no parameter is trainable."""
    if not trainable_parameters(model):
        raise UnsupportedOption("No parameter of the model is trainable: all have requires_grad=False.")
    groups = parameter_groups(model, arguments)
    betas, eps = (arguments.adam_beta1, arguments.adam_beta2), arguments.adam_epsilon
    if arguments.optim == "sgd":
        return torch.optim.SGD(groups, lr=arguments.learning_rate)
    if arguments.optim == "adafactor":
        return Adafactor(groups, lr=arguments.learning_rate)
    if arguments.optim == "muon":
        return Muon(groups, lr=arguments.learning_rate, betas=betas, eps=eps)
    fused = arguments.optim == "adamw_torch_fused" and all(
        p.is_floating_point() for _, p in trainable_parameters(model)
    )
    return AdamW(groups, lr=arguments.learning_rate, betas=betas, eps=eps, fused=fused)


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for the matrices of layers, AdamW for all else (Jordan et al., 2024; arXiv:2502.16982).

    The learning rate is that of AdamW: torch's `match_rms_adamw` scales the updates of matrices to its size.

    Args:
        groups: groups of `parameter_groups`; their `names` tell which parameters belong to a layer.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(list(groups), {"lr": lr, "weight_decay": 0.0})
        self._parts: list[tuple[torch.optim.Optimizer, dict[str, Any]]] = []
        for group in self.param_groups:
            shared = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
            named = list(zip(group["names"], group["params"], strict=True))
            matrices = [p for name, p in named if p.ndim == 2 and "layers." in name]
            others = [p for name, p in named if not (p.ndim == 2 and "layers." in name)]
            if matrices:
                self._parts.append((torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **shared), group))
            if others:
                self._parts.append((AdamW(others, betas=betas, eps=eps, fused=True, **shared), group))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for part, group in self._parts:
            part.state = self.state
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
        return loss


def create_scheduler(
    optimizer: torch.optim.Optimizer, custom: Any, arguments: TrainingArguments, steps: int
) -> LambdaLR:
    """Return the custom scheduler of the caller, or build the scheduler that the arguments name.

    Raises:
        UnsupportedOption: the custom scheduler is no LambdaLR, or belongs to another optimizer.
    """
    if custom is None:
        return LambdaLR(optimizer, schedule(arguments, steps))
    if not isinstance(custom, LambdaLR):
        raise UnsupportedOption(
            f"optimizers: {type(custom).__name__} is no LambdaLR, whose factor is known at every step; name a schedule "
            "in lr_scheduler_type, or give a LambdaLR."
        )
    if custom.optimizer is not optimizer:
        raise UnsupportedOption(
            f"optimizers: the schedule belongs to another optimizer, a {type(custom.optimizer).__name__}. Give both, "
            "or name a schedule in lr_scheduler_type."
        )
    return custom


def set_scheduler_step(scheduler: LambdaLR, step: int) -> None:
    """Set a scheduler and the learning rates of its optimizer to a step, whatever their state."""
    factors = [factor(step) for factor in scheduler.lr_lambdas]
    rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    unchanged = [None] * len(factors)
    scheduler.load_state_dict({"last_epoch": step, "_step_count": step + 1, "_last_lr": rates, "lr_lambdas": unchanged})


def schedule(arguments: TrainingArguments, steps: int) -> Callable[[int], float]:
    """Return the function from optimizer step to factor of the learning rate, for a run of `steps` steps.

    Raises:
        UnsupportedOption: an entry of `lr_scheduler_kwargs` that the schedule does not take.
    """
    make, options = SCHEDULES[arguments.lr_scheduler_type], dict(arguments.lr_scheduler_kwargs)
    if make is polynomial and "lr_end_rate" not in options:
        options.setdefault("lr_end", 1e-7)  # the default of Transformers
    for name in ("min_lr", "lr_end"):  # schedules take shares of the learning rate
        if options.get(name) is not None and arguments.learning_rate:
            options[f"{name}_rate"] = options.pop(name) / arguments.learning_rate
    try:
        return make(steps, arguments.warmup(steps), **options)
    except TypeError as error:
        raise UnsupportedOption(
            f"lr_scheduler_kwargs {arguments.lr_scheduler_kwargs} do not fit {arguments.lr_scheduler_type!r}: {error}."
        ) from error


def _with_warmup(warmup: int, after: Callable[[int], float]) -> Callable[[int], float]:
    """Put a linear warmup before a schedule."""
    return lambda step: step / max(1, warmup) if step < warmup else after(step)


def _progress(step: int, warmup: int, steps: int) -> float:
    """Return the share of the steps after the warmup that are done."""
    return (step - warmup) / max(1, steps - warmup)


def linear(steps: int, warmup: int) -> Callable[[int], float]:
    return _with_warmup(warmup, lambda step: max(0.0, (steps - step) / max(1, steps - warmup)))


def constant(steps: int, warmup: int) -> Callable[[int], float]:
    return lambda step: 1.0


def constant_with_warmup(steps: int, warmup: int) -> Callable[[int], float]:
    return _with_warmup(warmup, lambda step: 1.0)


def cosine(steps: int, warmup: int, num_cycles: float = 0.5) -> Callable[[int], float]:
    """Cosine schedule (Loshchilov and Hutter, 2017, arXiv:1608.03983)."""
    angle = math.pi * num_cycles * 2.0
    return _with_warmup(warmup, lambda step: max(0.0, 0.5 * (1.0 + math.cos(angle * _progress(step, warmup, steps)))))


def cosine_with_restarts(steps: int, warmup: int, num_cycles: int = 1) -> Callable[[int], float]:
    def after(step: int) -> float:
        done = _progress(step, warmup, steps)
        return 0.0 if done >= 1.0 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * done) % 1.0))))

    return _with_warmup(warmup, after)


def cosine_with_min_lr(
    steps: int, warmup: int, min_lr_rate: float = 0.1, num_cycles: float = 0.5
) -> Callable[[int], float]:
    schedule = cosine(steps, warmup, num_cycles)
    return _with_warmup(warmup, lambda step: max(0.0, schedule(step) * (1 - min_lr_rate) + min_lr_rate))


def polynomial(steps: int, warmup: int, power: float = 1.0, lr_end_rate: float = 0.0) -> Callable[[int], float]:
    def after(step: int) -> float:
        left = max(0.0, 1 - _progress(step, warmup, steps))
        return lr_end_rate + (1 - lr_end_rate) * left**power

    return _with_warmup(warmup, after)


def inverse_sqrt(steps: int, warmup: int, timescale: int | None = None) -> Callable[[int], float]:
    scale = timescale or warmup or 10_000
    return _with_warmup(warmup, lambda step: 1.0 / math.sqrt((step + scale - warmup) / scale))


def warmup_stable_decay(
    steps: int, warmup: int, num_decay_steps: float = 0.1, num_stable_steps: int | None = None,
    warmup_type: str = "linear", decay_type: str = "cosine", min_lr_ratio: float = 0.0, num_cycles: float = 0.5,
) -> Callable[[int], float]:  # fmt: skip
    """Constant rate, then a short decay (Hu et al., 2024, arXiv:2404.06395); `num_decay_steps` below 1 is a share."""
    rises: Mapping[str, Callable[[float], float]] = {
        "linear": lambda x: x,
        "cosine": lambda x: 0.5 * (1 - math.cos(math.pi * x)),
        "1-sqrt": lambda x: 1 - math.sqrt(1 - x),
    }
    falls: Mapping[str, Callable[[float], float]] = {
        "linear": lambda x: 1 - x,
        "cosine": lambda x: 0.5 * (1 + math.cos(2 * math.pi * num_cycles * x)),
        "1-sqrt": lambda x: 1 - math.sqrt(x),
    }
    for name, value in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        if value not in falls:
            raise UnsupportedOption(f"{name} {value!r} is none of {', '.join(falls)}.")
    last = math.ceil(num_decay_steps * steps) if num_decay_steps < 1 else int(num_decay_steps)
    begin = steps - last if num_stable_steps is None else warmup + num_stable_steps

    def factor(step: int) -> float:
        if warmup <= step < begin:
            return 1.0
        if step >= begin + last and step >= warmup:
            return min_lr_ratio
        done = step / max(1, warmup) if step < warmup else (step - begin) / max(1, last)
        shape = (rises[warmup_type] if step < warmup else falls[decay_type])(done)
        return max(0.0, shape * (1 - min_lr_ratio) + min_lr_ratio)

    return factor


SCHEDULES: Mapping[str, Callable[..., Callable[[int], float]]] = {
    "linear": linear,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "cosine_with_min_lr": cosine_with_min_lr,
    "polynomial": polynomial,
    "constant": constant,
    "constant_with_warmup": constant_with_warmup,
    "inverse_sqrt": inverse_sqrt,
    "warmup_stable_decay": warmup_stable_decay,
}


class WeightAverage:
    """Exponential moving average of the trainable weights (Polyak and Juditsky, 1992), in float32 or float64.

    Args:
        decay: weight of the old average. At most (1 + steps) / (10 + steps), so that initial weights fade quickly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.weights: dict[str, Tensor] = {name: _as_float(p).clone() for name, p in trainable_parameters(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in trainable_parameters(model):
            self.weights[name].lerp_(_as_float(parameter), 1 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights with the averages."""
        for name, parameter in trainable_parameters(model):
            current = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(current)


def _as_float(parameter: Tensor) -> Tensor:
    return parameter.detach() if parameter.dtype == torch.float64 else parameter.detach().float()
