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
    """LoRA change of one weight: scale * B @ A (Hu et al., 2021, arXiv:2106.09685).

    Args:
        down: A, (rank, inputs); layers that a checkpoint stores in one matrix share it.
        up: B, (outputs, rank). dropout: of the inputs of A.
        magnitude: length of each row of the changed weight, (outputs,) (DoRA, arXiv:2402.09353); None: not learned.
    """

    not_in_checkpoint = True  # no parameter of the model's own checkpoint

    def __init__(
        self, down: nn.Parameter, up: Tensor, scale: float, dropout: float, magnitude: Tensor | None = None
    ) -> None:
        super().__init__()
        self.A, self.B = down, nn.Parameter(up)
        self.scale, self.dropout = scale, Dropout(dropout)
        self.magnitude = None if magnitude is None else nn.Parameter(magnitude)

    def forward(self, x: Tensor, plain: Tensor, layer: AdapterLayer) -> Tensor:
        """Return what is added to `plain`, the base layer's result (..., outputs) for x (..., inputs)."""
        x = x.to(self.A.dtype)
        read = self.dropout(x)
        change = F.linear(F.linear(read, self.A), self.B) * self.scale
        if self.magnitude is None:
            return change
        weight = layer.base_weight().detach()
        row_scale = self.row_scale(weight)
        if self.training and self.dropout.p:
            plain = F.linear(read, weight.to(read.dtype))
        elif isinstance(layer.bias, Tensor):
            plain = plain - layer.bias
        return (row_scale - 1) * plain + row_scale * change

    def row_scale(self, weight: Tensor) -> Tensor:
        """Return the learned length of each row over its present length, (outputs,): a constant for gradients (4.3)."""
        assert self.magnitude is not None
        with torch.no_grad():
            length = torch.linalg.vector_norm(weight + self.delta(), dim=1)
        return self.magnitude / length

    def delta(self) -> Tensor:
        """scale * B @ A, (outputs, inputs)."""
        return self.scale * (self.B @ self.A)

    def change(self, weight: Tensor) -> Tensor:
        """Return what the adapter adds to the weight, (outputs, inputs)."""
        delta = self.delta()
        return delta if self.magnitude is None else self.row_scale(weight)[:, None] * (weight + delta) - weight


class AdapterLayer(nn.Module):
    """A linear layer with adapters.

    `weight` includes the active adapters, without dropout: code that reads it computes as the adapted model does.
    """

    lora: nn.ModuleDict  # adapter's name -> Lora
    active: tuple[str, ...]

    def base_weight(self) -> Tensor:
        """Return the frozen weight, (outputs, inputs)."""
        raise NotImplementedError

    def base_forward(self, x: Tensor) -> Tensor:
        """Return the layer's result without adapters, (..., outputs)."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        plain = self.base_forward(input)
        out = plain
        for name in self.active:
            out = out + self.lora[name](input, plain, self)
        return out.to(plain.dtype)

    def merged_weight(self, weight: Tensor) -> Tensor:
        """Return `weight` plus the changes of the active adapters. Each change is computed from `weight` alone."""
        out = weight
        for change in self.active_loras():
            out = out + change.change(weight).to(weight.dtype)
        return out

    def active_loras(self) -> Iterator[Lora]:
        return (self.lora[name] for name in self.active)  # type: ignore[misc]


class LoraLinear(AdapterLayer, Linear):
    """A `Linear` with adapters.

    Attributes:
        shows_base_weight: `weight` is the frozen one, for code that looks a parameter up by its name.
    """

    shows_base_weight = False

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.base_weight() if self.shows_base_weight else self.merged_weight(self.base_weight())

    def base_weight(self) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def base_forward(self, x: Tensor) -> Tensor:
        return linear(self.widen(x), self.base_weight(), self.bias)


class LoraQuantizedLinear(AdapterLayer, QuantizedLinear):
    """A `QuantizedLinear` with adapters (QLoRA, Dettmers et al., 2023, arXiv:2305.14314)."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.merged_weight(self.base_weight())

    def base_weight(self) -> Tensor:
        return self.dequantized()

    def base_forward(self, x: Tensor) -> Tensor:
        return QuantizedLinear.forward(self, x)


ADAPTER_CLASSES: dict[type[Linear], type[LoraLinear | LoraQuantizedLinear]] = {
    Linear: LoraLinear,
    QuantizedLinear: LoraQuantizedLinear,
}


def wrap(layer: Linear, places: LayerPlaces) -> AdapterLayer:
    """Put a layer with adapters in a layer's places; paths of parameters, and the parameters, stay the same."""
    if isinstance(layer, AdapterLayer):
        return layer
    made = recast(layer, ADAPTER_CLASSES[type(layer)])
    made.lora, made.active = nn.ModuleDict(), ()
    return places.put(layer, made)


def unwrap(layer: AdapterLayer, places: LayerPlaces) -> None:
    """Put a layer without adapters in the places of one without any left."""
    made = recast(layer, next(plain for plain, changed in ADAPTER_CLASSES.items() if type(layer) is changed))
    del made.lora, made.active
    places.put(layer, made)


def add_lora(
    layer: AdapterLayer,
    name: str,
    down: nn.Parameter,
    *,
    scale: float,
    dropout: float,
    dora: bool,
    drawn: bool,
) -> None:
    """Add one adapter's matrices to a layer.

    Args:
        down: A, (rank, inputs). drawn: True draws B at random too; otherwise the adapter changes nothing at first.
    """
    weight, rank = layer.base_weight().detach(), down.shape[0]
    up = torch.zeros(weight.shape[0], rank)
    if drawn:
        up.uniform_(-1 / math.sqrt(rank), 1 / math.sqrt(rank))
    lora = Lora(down, up.to(down), scale, dropout)
    if dora:
        with torch.no_grad():
            length = torch.linalg.vector_norm(weight.to(down.dtype) + lora.delta(), dim=1)
        lora.magnitude = nn.Parameter(length)
    layer.lora[name] = lora.train(layer.training)


def initial_down(rank: int, width: int, how: bool | str) -> Tensor:
    """Draw a new A, (rank, width), on the CPU, so that a seed means the same on every device."""
    if how == "gaussian":
        return torch.randn(rank, width) / rank
    bound = 1 / math.sqrt(width)  # torch's default for a linear layer: kaiming-uniform with a = sqrt(5)
    return torch.empty(rank, width).uniform_(-bound, bound)
