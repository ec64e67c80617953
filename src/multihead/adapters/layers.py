"""Linear layers with low-rank changes beside their weight."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.ops import linear
from ..nn.quantized_linear import QuantizedLinear
from ..nn.replace_layers import LayerPlaces, recast
from ..nn.weights import Dropout, Linear


class Lora(nn.Module):
    """One adapter's change of one weight: scale * B @ A (Hu et al., 2021, arXiv:2106.09685).

    Args:
        down: A, (rank, inputs); layers that a checkpoint stores in one matrix share it.
        up: B, (outputs, rank). dropout: of what A reads.
        magnitude: length of each row of the changed weight, (outputs,) (DoRA, arXiv:2402.09353); None for as it comes.
    """

    not_in_checkpoint = True  # no parameter of the model's own checkpoint

    def __init__(
        self, down: nn.Parameter, up: Tensor, scale: float, dropout: float, magnitude: Tensor | None = None
    ) -> None:
        super().__init__()
        self.A, self.B = down, nn.Parameter(up)
        self.scale, self.dropout = scale, Dropout(dropout)
        self.magnitude = None if magnitude is None else nn.Parameter(magnitude)

    def forward(self, x: Tensor, plain: Tensor, layer: Adapted) -> Tensor:
        """What is added to `plain`, the layer's own result (..., outputs) for x (..., inputs)."""
        x = x.to(self.A.dtype)
        read = self.dropout(x)
        change = F.linear(F.linear(read, self.A), self.B) * self.scale
        if self.magnitude is None:
            return change
        weight = layer.own_weight().detach()
        stretch = self.stretch(weight)
        if self.training and self.dropout.p:
            plain = F.linear(read, weight.to(read.dtype))
        elif isinstance(layer.bias, Tensor):
            plain = plain - layer.bias
        return (stretch - 1) * plain + stretch * change

    def stretch(self, weight: Tensor) -> Tensor:
        """(outputs,): learned length of each row over its length, which counts as a constant (section 4.3)."""
        assert self.magnitude is not None
        with torch.no_grad():
            length = torch.linalg.vector_norm(weight + self.delta(), dim=1)
        return self.magnitude / length

    def delta(self) -> Tensor:
        """scale * B @ A, (outputs, inputs)."""
        return self.scale * (self.B @ self.A)

    def change(self, weight: Tensor) -> Tensor:
        """What is added to the weight, (outputs, inputs)."""
        delta = self.delta()
        return delta if self.magnitude is None else self.stretch(weight)[:, None] * (weight + delta) - weight


class Adapted(nn.Module):
    """A linear layer that adapters change.

    `weight` is the changed one, so that whoever reads it sees the adapters too; dropout is not part of it.
    """

    lora: nn.ModuleDict  # adapter's name -> Lora
    active: tuple[str, ...]

    def own_weight(self) -> Tensor:
        """The frozen weight, (outputs, inputs)."""
        raise NotImplementedError

    def plain(self, x: Tensor) -> Tensor:
        """The layer's own result, without any adapter."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        plain = self.plain(input)
        out = plain
        for name in self.active:
            out = out + self.lora[name](input, plain, self)
        return out.to(plain.dtype)

    def changed(self, weight: Tensor) -> Tensor:
        """`weight` with what the active adapters add, each to it alone."""
        out = weight
        for change in self.changes():
            out = out + change.change(weight).to(weight.dtype)
        return out

    def changes(self) -> Iterator[Lora]:
        return (self.lora[name] for name in self.active)  # type: ignore[misc]


class LoraLinear(Adapted, Linear):
    """A `Linear` that adapters change.

    Attributes:
        shows_own_weight: `weight` is the frozen one, for code that looks a parameter up by its name.
    """

    shows_own_weight = False

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.own_weight() if self.shows_own_weight else self.changed(self.own_weight())

    def own_weight(self) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def plain(self, x: Tensor) -> Tensor:
        return linear(self.widen(x), self.own_weight(), self.bias)


class LoraQuantizedLinear(Adapted, QuantizedLinear):
    """A `QuantizedLinear` that adapters change (QLoRA, Dettmers et al., 2023, arXiv:2305.14314)."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.changed(self.own_weight())

    def own_weight(self) -> Tensor:
        return self.dequantized()

    def plain(self, x: Tensor) -> Tensor:
        return QuantizedLinear.forward(self, x)


ADAPTED: dict[type[Linear], type[LoraLinear | LoraQuantizedLinear]] = {
    Linear: LoraLinear,
    QuantizedLinear: LoraQuantizedLinear,
}


def wrap(layer: Linear, places: LayerPlaces) -> Adapted:
    """Put a layer that adapters change in a layer's places; paths of parameters, and the parameters, stay the same."""
    if isinstance(layer, Adapted):
        return layer
    made = recast(layer, ADAPTED[type(layer)])
    made.lora, made.active = nn.ModuleDict(), ()
    return places.put(layer, made)


def unwrap(layer: Adapted, places: LayerPlaces) -> None:
    """Put a layer without adapters in the places of one without any left."""
    made = recast(layer, next(plain for plain, changed in ADAPTED.items() if type(layer) is changed))
    del made.lora, made.active
    places.put(layer, made)


def added(
    layer: Adapted,
    name: str,
    down: nn.Parameter,
    *,
    scale: float,
    dropout: float,
    dora: bool,
    drawn: bool,
) -> None:
    """Gives a layer the change of one more adapter; `drawn`: it is no zero at first."""
    weight, rank = layer.own_weight().detach(), down.shape[0]
    up = torch.zeros(weight.shape[0], rank)
    if drawn:
        up.uniform_(-1 / math.sqrt(rank), 1 / math.sqrt(rank))
    lora = Lora(down, up.to(down), scale, dropout)
    if dora:
        with torch.no_grad():
            length = torch.linalg.vector_norm(weight.to(down.dtype) + lora.delta(), dim=1)
        lora.magnitude = nn.Parameter(length)
    layer.lora[name] = lora.train(layer.training)


def first(rank: int, width: int, how: bool | str) -> Tensor:
    """A new A, (rank, width), drawn on the CPU so that a seed means the same on every device."""
    if how == "gaussian":
        return torch.randn(rank, width) / rank
    bound = 1 / math.sqrt(width)  # torch's default for a linear layer: kaiming-uniform with a = sqrt(5)
    return torch.empty(rank, width).uniform_(-bound, bound)
