"""Layers with weights, built without values: these come from a checkpoint or from `initialize`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..kernels.ops import dropout, linear


class Float32Parameters(nn.Module):
    """Module whose own parameters stay float32 in a half-precision model; those of its parts do as these say.

    Args:
        widened: such precisions of a model.
    """

    widened: tuple[torch.dtype, ...] = ()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        def moved(x: torch.Tensor) -> torch.Tensor:
            y = fn(x)
            return x.to(y.device, torch.float32) if y.dtype in self.widened else y

        if not self.widened:
            return super()._apply(fn, recurse)
        for part in self.children() if recurse else ():
            part._apply(fn)
        return super()._apply(moved, False)


class Linear(Float32Parameters, nn.Linear):
    """torch's linear layer without initialization at construction."""

    def reset_parameters(self) -> None:
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear(self.widen(input), self.weight, self.bias)

    def widen(self, x: torch.Tensor) -> torch.Tensor:
        """Cast x to float32 where the weight stays float32."""
        return x.float() if x.dtype in self.widened else x


class ExactLinear(Linear):
    """Linear layer that stays float32 in a half-precision model."""

    widened = (torch.float16, torch.bfloat16)


class Dropout(nn.Dropout):
    """Dropout through the fastest implementation of the device."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training and self.p else input


class GroupedLinear(nn.Module):
    """Linear layer in groups of inputs and outputs (a 1x1 convolution with groups).

    Args:
        groups: must divide both widths. The weight is (outputs, inputs / groups).
    """

    def __init__(self, width: int, out: int, groups: int, *, bias: bool = True) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out, width // groups))
        self.bias = nn.Parameter(torch.empty(out)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (tokens, inputs) to (tokens, outputs)."""
        parts = x.unflatten(-1, (self.groups, -1))
        mixed = torch.einsum("tgi,goi->tgo", parts, self.weight.unflatten(0, (self.groups, -1)))
        return mixed.flatten(-2) if self.bias is None else mixed.flatten(-2) + self.bias


class Embedding(nn.Embedding):
    """torch's embedding without initialization at construction."""

    def reset_parameters(self) -> None:
        pass


class ScaledEmbedding(Embedding):
    """Embedding whose vectors are multiplied by a number.

    Args:
        rounded: the number is rounded to the weights' precision (Gemma).
    """

    def __init__(self, count: int, width: int, scale: float, *, rounded: bool = True) -> None:
        super().__init__(count, width)
        self.scale, self.rounded = scale, rounded

    @property
    def factor(self) -> float:
        return round_like(self.weight, self.scale) if self.rounded else self.scale

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * self.factor


class MarkedEmbedding(ScaledEmbedding):
    """Scaled embedding with a vector of its own, which is not scaled, for one id (T5Gemma 2's end of an image).

    Args:
        mark: the id.
    """

    def __init__(self, count: int, width: int, scale: float, *, mark: int, **options: Any) -> None:
        super().__init__(count, width, scale, **options)
        self.mark, self.marked = mark, nn.Parameter(torch.empty(width))  # (width,)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.where((ids == self.mark)[..., None], self.marked, super().forward(ids))  # (tokens, width)


class NormedEmbedding(Embedding):
    """Embedding whose vectors are normed (Muse Glimmer, Inkling); vectors that a caller gives are not."""

    def __init__(self, count: int, width: int, norm: nn.Module) -> None:
        super().__init__(count, width)
        self.norm = norm

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(ids))  # (tokens, width)


def round_like(weight: torch.Tensor, number: float) -> float:
    """Round a number to the precision of a tensor."""
    return float(torch.tensor(number, dtype=weight.dtype, device="cpu"))


class LayerNorm(nn.LayerNorm):
    """torch's layer norm (Ba et al., 2016, arXiv:1607.06450) without initialization at construction."""

    def reset_parameters(self) -> None:
        pass


class NormedLinear(nn.Module):
    """Linear layer that norms what it reads (BitNet)."""

    def __init__(self, norm: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.norm, self.linear = norm, linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(x))  # (..., in) to (..., out)


class UnitRows(nn.Module):
    """Linear layer without bias whose rows are divided by their lengths (Baichuan 2)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, width))
        self._rows: tuple[tuple[int, int, torch.device], torch.Tensor] | None = None  # of which weight, and its rows

    def draw(self, name: str, parameter: torch.Tensor, std: float) -> None:
        parameter.normal_(0.0, std)

    def rows(self) -> torch.Tensor:
        """Return the rows of length 1, (out, in), computed once for each state of a weight that does not learn."""
        weight = self.weight
        if torch.is_grad_enabled() and weight.requires_grad:
            return nn.functional.normalize(weight)
        state = weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.device
        if self._rows is None or self._rows[0] != state:
            self._rows = state, nn.functional.normalize(weight.detach())
        return self._rows[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.rows())  # (..., in) to (..., out)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}  # a copy computes its own


def initialize(module: nn.Module, std: float) -> None:
    """Initialize parameters in place: matrices normal with this standard deviation, norms with ones and zeros."""
    with torch.no_grad():
        for child in module.modules():
            for name, parameter in child.named_parameters(recurse=False):
                initialize_parameter(child, name, parameter, std)


def initialize_parameter(owner: nn.Module, name: str, parameter: torch.Tensor, std: float) -> None:
    """Initialize one parameter of `owner` in place."""
    draw: Any = getattr(owner, "draw", None)  # a module may know better
    if draw is not None:
        draw(name, parameter, std)
    elif isinstance(owner, (nn.Linear, nn.Embedding, GroupedLinear)) and name == "weight":
        parameter.normal_(0.0, std)
    elif name == "weight":
        parameter.fill_(1.0 - getattr(owner, "centre", 0.0))
    else:
        parameter.zero_()
