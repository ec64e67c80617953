"""Hooks that make the optimizer and the schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ...errors import UnsupportedOption
from ...training.optim.adafactor import Adafactor
from ...training.optim.optimizers import schedule
from ..training_names import get_parameter_names
from .hooks import HookState

NO_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


class OptimizerHooks(HookState):
    """Optimizer and schedule of a `HookTrainer`; a subclass may override each method."""

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Create both for a run of some steps."""
        self.create_optimizer()
        self.create_scheduler(num_training_steps, self.optimizer)

    def create_optimizer(self, model: Any = None) -> Any:
        """Create the optimizer unless there is one, and return it."""
        if self.optimizer is not None:
            return self.optimizer
        model = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(model))
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        groups: Any = [
            {"params": [p for name, p in named if name in decayed], "weight_decay": self.args.weight_decay},
            {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
        ]
        kind, options = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(self.args, model)
        options = dict(options)
        for name in ("params", "model", "optimizer_dict"):
            groups = options.pop(name, groups)
        self.optimizer = kind(groups, **options)
        return self.optimizer

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        """Return the class of the optimizer that `args.optim` names, and its options. Raises UnsupportedOption."""
        if args.optim == "sgd":
            return torch.optim.SGD, {"lr": args.learning_rate}
        if args.optim == "adafactor":
            return Adafactor, {"lr": args.learning_rate}
        if args.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise UnsupportedOption(
                f"optim={args.optim!r} is not computed for a Trainer whose hooks are overridden: override "
                "create_optimizer, or give optimizers=(optimizer, schedule)."
            )
        options = {
            "lr": args.learning_rate, "betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon,
            "fused": args.optim == "adamw_torch_fused",
        }  # fmt: skip
        return torch.optim.AdamW, options

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the names of the parameters with weight decay: all but biases and those of norms."""
        norms = [kind for kind in {type(one) for one in model.modules()} if "norm" in kind.__name__.lower()]
        return get_parameter_names(model, [nn.LayerNorm, *norms], list(NO_DECAY))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule of the learning rate unless there is one, and return it."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(optimizer, schedule(self.args, num_training_steps))
        return self.lr_scheduler

    def _get_learning_rate(self) -> float:
        """Return the learning rate of the first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def get_learning_rates(self) -> list[float]:
        """Return the learning rate of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]
