"""What changes weights: optimizers over groups of parameters, schedules of the learning rate, moving averages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ...errors import UnsupportedOption
from ..arguments import TrainingArguments
from .adafactor import Adafactor
from .sparse_embeddings import AdamW

Named = tuple[str, nn.Parameter]


def learning(model: nn.Module) -> list[Named]:
    """The parameters that learn, by path."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def finite(model: nn.Module) -> bool:
    """Whether all parameters that learn are finite numbers, of this process's parts where they are sharded."""
    parts = (p.to_local() if hasattr(p, "to_local") else p for _, p in learning(model))
    return all(bool(torch.isfinite(part).all()) for part in parts)


def undecayed(model: nn.Module) -> set[str]:
    """Paths of the parameters that weight decay leaves alone: biases, also those of attention, and weights of norms."""
    found = set()
    table = getattr(model, "keys", None)
    for path, module in model.named_modules():
        normed = "norm" in type(module).__name__.lower()
        for leaf, _ in module.named_parameters(recurse=False):
            name = f"{path}.{leaf}" if path else leaf
            stored = table.locate(name, "") if table is not None else None
            if normed or "bias" in leaf or (stored is not None and "bias" in stored[1][0]):
                found.add(name)
    return found


def groups(model: nn.Module, arguments: TrainingArguments) -> list[dict[str, Any]]:
    """Parameters by decay and learning rate; `names` holds their paths."""
    bare = undecayed(model)
    found: dict[Any, dict[str, Any]] = {}
    depth = 1 + max((int(n) for name, _ in learning(model) for n in re.findall(r"layers\.(\d+)\.", name)), default=-1)
    for name, parameter in learning(model):
        rate = _rate(name, depth, arguments)
        decay = 0.0 if name in bare else arguments.weight_decay
        mesh = getattr(parameter, "device_mesh", None)  # no group mixes whole parameters with parts, as torch demands
        group = found.setdefault((decay, rate, mesh), {"params": [], "names": [], "weight_decay": decay, "lr": rate})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(found.values())


def _rate(name: str, depth: int, arguments: TrainingArguments) -> float:
    """A parameter's learning rate: smaller with each layer below the head (Howard and Ruder, 2018)."""
    base, factor = arguments.learning_rate, arguments.layerwise_lr_decay
    if name.startswith("head.") or ".head." in name:
        return base if arguments.head_learning_rate is None else arguments.head_learning_rate
    layer = re.search(r"layers\.(\d+)\.", name)
    below = depth - int(layer.group(1)) if layer else depth + 1 if ".embed." in name else 1
    return base * factor**below if factor != 1.0 else base


def optimizer_of(model: nn.Module, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """The optimizer that the settings name. Raises UnsupportedOption where nothing learns."""
    if not learning(model):
        raise UnsupportedOption("No parameter of the model learns: all have requires_grad=False.")
    found = groups(model, arguments)
    betas, eps = (arguments.adam_beta1, arguments.adam_beta2), arguments.adam_epsilon
    if arguments.optim == "sgd":
        return torch.optim.SGD(found, lr=arguments.learning_rate)
    if arguments.optim == "adafactor":
        return Adafactor(found, lr=arguments.learning_rate)
    if arguments.optim == "muon":
        return Muon(found, lr=arguments.learning_rate, betas=betas, eps=eps)
    fused = arguments.optim == "adamw_torch_fused" and all(p.is_floating_point() for _, p in learning(model))
    return AdamW(found, lr=arguments.learning_rate, betas=betas, eps=eps, fused=fused)


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for the matrices of layers, AdamW for all else (Jordan et al., 2024; arXiv:2502.16982).

    The learning rate is that of AdamW: torch's `match_rms_adamw` scales the matrices' updates to its size.

    Args:
        groups: as `groups` makes them, whose `names` tell what is in a layer.
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


def scheduled(optimizer: torch.optim.Optimizer, given: Any, arguments: TrainingArguments, steps: int) -> LambdaLR:
    """The learning rates of a run: a caller's own, or those that the settings name; each run begins at step 0.

    Raises:
        UnsupportedOption: a scheduler whose rates are not known at every step, or one of another optimizer.
    """
    if given is None:
        return LambdaLR(optimizer, schedule(arguments, steps))
    if not isinstance(given, LambdaLR):
        raise UnsupportedOption(
            f"optimizers: {type(given).__name__} is no LambdaLR, whose factor is known at every step; name a schedule "
            "in lr_scheduler_type, or give a LambdaLR."
        )
    if given.optimizer is not optimizer:
        raise UnsupportedOption(
            f"optimizers: the schedule belongs to another optimizer, a {type(given.optimizer).__name__}. Give both, "
            "or name a schedule in lr_scheduler_type."
        )
    return given


def place(scheduler: LambdaLR, step: int) -> None:
    """Puts a scheduler, and its optimizer's learning rates, where a step finds them, whatever was before."""
    factors = [factor(step) for factor in scheduler.lr_lambdas]
    rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    unchanged = [None] * len(factors)
    scheduler.load_state_dict({"last_epoch": step, "_step_count": step + 1, "_last_lr": rates, "lr_lambdas": unchanged})


def schedule(arguments: TrainingArguments, steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each optimizer step, of `steps` in all.

    Raises:
        UnsupportedOption: entries of `lr_scheduler_kwargs` that the schedule has not.
    """
    make, options = SCHEDULES[arguments.lr_scheduler_type], dict(arguments.lr_scheduler_kwargs)
    if make is polynomial and "lr_end_rate" not in options:
        options.setdefault("lr_end", 1e-7)  # the reference's
    for name in ("min_lr", "lr_end"):  # rates, whose shares of the rate the schedules take
        if options.get(name) is not None and arguments.learning_rate:
            options[f"{name}_rate"] = options.pop(name) / arguments.learning_rate
    try:
        return make(steps, arguments.warmup(steps), **options)
    except TypeError as error:
        raise UnsupportedOption(
            f"lr_scheduler_kwargs {arguments.lr_scheduler_kwargs} do not fit {arguments.lr_scheduler_type!r}: {error}."
        ) from error


def _warmed(warmup: int, after: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: step / max(1, warmup) if step < warmup else after(step)


def _share(step: int, warmup: int, steps: int) -> float:
    """How much of what follows the warm-up is done."""
    return (step - warmup) / max(1, steps - warmup)


def linear(steps: int, warmup: int) -> Callable[[int], float]:
    return _warmed(warmup, lambda step: max(0.0, (steps - step) / max(1, steps - warmup)))


def constant(steps: int, warmup: int) -> Callable[[int], float]:
    return lambda step: 1.0


def constant_with_warmup(steps: int, warmup: int) -> Callable[[int], float]:
    return _warmed(warmup, lambda step: 1.0)


def cosine(steps: int, warmup: int, num_cycles: float = 0.5) -> Callable[[int], float]:
    """Loshchilov and Hutter, 2017, arXiv:1608.03983."""
    turn = math.pi * num_cycles * 2.0
    return _warmed(warmup, lambda step: max(0.0, 0.5 * (1.0 + math.cos(turn * _share(step, warmup, steps)))))


def cosine_with_restarts(steps: int, warmup: int, num_cycles: int = 1) -> Callable[[int], float]:
    def after(step: int) -> float:
        done = _share(step, warmup, steps)
        return 0.0 if done >= 1.0 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * done) % 1.0))))

    return _warmed(warmup, after)


def cosine_with_min_lr(
    steps: int, warmup: int, min_lr_rate: float = 0.1, num_cycles: float = 0.5
) -> Callable[[int], float]:
    whole = cosine(steps, warmup, num_cycles)
    return _warmed(warmup, lambda step: max(0.0, whole(step) * (1 - min_lr_rate) + min_lr_rate))


def polynomial(steps: int, warmup: int, power: float = 1.0, lr_end_rate: float = 0.0) -> Callable[[int], float]:
    def after(step: int) -> float:
        left = max(0.0, 1 - _share(step, warmup, steps))
        return lr_end_rate + (1 - lr_end_rate) * left**power

    return _warmed(warmup, after)


def inverse_sqrt(steps: int, warmup: int, timescale: int | None = None) -> Callable[[int], float]:
    scale = timescale or warmup or 10_000
    return _warmed(warmup, lambda step: 1.0 / math.sqrt((step + scale - warmup) / scale))


def warmup_stable_decay(
    steps: int, warmup: int, num_decay_steps: float = 0.1, num_stable_steps: int | None = None,
    warmup_type: str = "linear", decay_type: str = "cosine", min_lr_ratio: float = 0.0, num_cycles: float = 0.5,
) -> Callable[[int], float]:  # fmt: skip
    """Full rate, then a short decay (Hu et al., 2024, arXiv:2404.06395); `num_decay_steps` below 1 is a share."""
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


class Average:
    """An exponential moving average of weights (Polyak and Juditsky, 1992), in float32 at least.

    Args:
        decay: of what was; begins smaller, (1 + steps) / (10 + steps), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.weights: dict[str, Tensor] = {name: _exact(p).clone() for name, p in learning(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in learning(model):
            self.weights[name].lerp_(_exact(parameter), 1 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchanges the model's weights with the averages."""
        for name, parameter in learning(model):
            now = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(now)


def _exact(parameter: Tensor) -> Tensor:
    return parameter.detach() if parameter.dtype == torch.float64 else parameter.detach().float()
