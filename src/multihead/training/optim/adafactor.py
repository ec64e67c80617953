"""Adafactor (Shazeer and Stern, 2018, arXiv:1804.04235) with an explicit learning rate, as the Transformers Trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TINY = 1e-30  # added to squared gradients, so that a row of zeros divides nothing by zero


class Adafactor(torch.optim.Optimizer):
    """Adam without momentum that factors the second moments of a matrix into one number a row and one a column.

    Updates are scaled neither by the parameter norm nor by the step number. Half-precision parameters are updated in
    float32.

    Args:
        clip: maximum root mean square of an update. decay: step t weighs the new squared gradient by t ** decay.
    """

    def __init__(
        self, params: Any, *, lr: float, weight_decay: float = 0.0, clip: float = 1.0, decay: float = -0.8
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "clip": clip, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(group, parameter)
        return loss

    def _update(self, group: dict[str, Any], parameter: Tensor) -> None:
        dtype = torch.promote_types(parameter.dtype, torch.float32)
        gradient, weight = parameter.grad.to(dtype), parameter.to(dtype)  # type: ignore[union-attr]
        update = gradient * self._inverse_root(group, self.state[parameter], gradient)
        update /= (rms(update) / group["clip"]).clamp_(min=1.0)
        weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])
        if weight is not parameter:
            parameter.copy_(weight)

    def _inverse_root(self, group: dict[str, Any], state: dict[str, Tensor], gradient: Tensor) -> Tensor:
        """Update the second moments with a gradient; returns 1 / their square root (..., rows, columns)."""
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            if gradient.ndim < 2:
                state["exp_avg_sq"] = torch.zeros_like(gradient)
            else:
                state["exp_avg_sq_row"] = torch.zeros_like(gradient[..., 0])
                state["exp_avg_sq_col"] = torch.zeros_like(gradient[..., 0, :])
        state["step"] = state["step"].cpu() + 1  # read without waiting for a device
        new = float(state["step"]) ** group["decay"]
        squares = gradient.square() + TINY
        if gradient.ndim < 2:
            return state["exp_avg_sq"].lerp_(squares, new).rsqrt()
        rows = state["exp_avg_sq_row"].lerp_(squares.mean(-1), new)
        columns = state["exp_avg_sq_col"].lerp_(squares.mean(-2), new)
        return (rows / rows.mean(-1, keepdim=True)).rsqrt().unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)


def rms(values: Tensor) -> Tensor:
    """Return the root mean square."""
    return values.norm() / values.numel() ** 0.5
