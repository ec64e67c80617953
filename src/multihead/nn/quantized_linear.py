"""Linear layers whose weight is held in a quantization format, for training adapters over them (QLoRA)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels.quantization.base import QuantizationFormat, format_of
from ..kernels.quantization.coded_tensor import QuantizedMatrix
from ..kernels.quantization.matmul import dequantized_linear
from ..kernels.quantization.registry import TRAINING
from .own_names import own_modules
from .replace_layers import LayerPlaces, recast
from .weights import Linear

LAYER = re.compile(r"^(?!head\.)(.*\.)?layers\.")  # paths of modules in the layers of a backbone


class QuantizedLinear(Linear):
    """A linear layer whose weight is buffers: `codes`, float32 `scales` and, where the format has them, `minima`.

    `quantize_linear` makes one from a `Linear`.
    """

    format: QuantizationFormat
    codes: Tensor
    scales: Tensor | None
    minima: Tensor | None
    sample: Tensor  # empty; its dtype is that of the dequantized weight, and follows `model.to(dtype)`

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(outputs, inputs), dequantized each time."""
        return self.dequantized()

    def dequantized(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight, (outputs, inputs); None for the model's dtype."""
        return self.format.dequantize(self.matrix, self.shape, dtype or self.sample.dtype)

    @property
    def matrix(self) -> QuantizedMatrix:
        return QuantizedMatrix(self.codes, self.scales, self.minima)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def forward(self, input: Tensor) -> Tensor:
        return dequantized_linear(self.widen(input), self.format, self.matrix, self.shape, self.bias)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        matrix = self.matrix
        super()._apply(fn, recurse)
        for name, held in matrix._asdict().items():
            moved = getattr(self, name)
            if held is not None and moved.dtype != held.dtype:  # these keep their dtype, whatever the model's becomes
                setattr(self, name, held.to(moved.device))
        return self


def quantize_linear(linear: Linear, format: str, device: torch.device | str | None = None) -> QuantizedLinear:
    """Return a `QuantizedLinear` to use in place of a layer, which loses its weight.

    Args:
        format: a name in `kernels.quantization.registry.FORMATS`.
        device: where the codes go; None for where the weight is.

    Raises:
        UnsupportedOption: an unknown format. InvalidInput: weights that are not finite.
    """
    weight = linear.weight.detach()
    chosen = format_of(format)
    matrix = chosen.encode(weight.to(device))
    del linear.weight  # its memory is free before the next layer is quantized
    made = recast(linear, QuantizedLinear)
    made.format = chosen
    for name, value in matrix._asdict().items():
        made.register_buffer(name, value)
    made.register_buffer("sample", weight.new_empty(0, device=matrix.codes.device), persistent=False)
    return made


def dequantize_linear(linear: QuantizedLinear) -> Linear:
    """Return a `Linear` with the dequantized weight, to use in a layer's place."""
    made = recast(linear, Linear)
    del made.codes, made.scales, made.minima, made.sample, made.format
    made.register_parameter("weight", nn.Parameter(linear.dequantized()))
    return made


def dequantize_model(model: nn.Module) -> None:
    """Put a `Linear` with the dequantized weight in the place of every quantized layer."""
    places = LayerPlaces(model)
    for layer in [module for module in model.modules() if isinstance(module, QuantizedLinear)]:
        places.put(layer, dequantize_linear(layer))


def quantize(model: nn.Module, format: str, device: torch.device | str | None = None) -> None:
    """Quantize every linear layer in the layers of a backbone, in place, one after the other.

    Embeddings, heads and the routers of experts stay as they are.

    Args:
        format: a name in `kernels.quantization.registry.FORMATS`; "int4" is NF4 here, as `load_in_4bit` takes it.
        device: as for `quantize_linear`.

    Raises:
        InvalidInput: the model has no such layer, or adapters already. UnsupportedOption: an unknown format.
    """
    format = TRAINING["load_in_4bit"] if format == "int4" else format
    linears = {path: m for path, m in own_modules(model) if isinstance(m, Linear) and LAYER.match(path)}
    changed = next((path for path, m in linears.items() if type(m) not in (Linear, QuantizedLinear)), None)
    if changed is not None:
        raise InvalidInput(f"{changed} has an adapter already; quantize the model first, then add adapters.")
    found = [m for path, m in linears.items() if type(m) is Linear and not path.endswith(".router")]
    if not found:
        raise InvalidInput(f"{type(model).__name__} has no linear layers left to quantize to {format}.")
    places = LayerPlaces(model)
    for linear in found:
        places.put(linear, quantize_linear(linear, format, device))


def is_quantized(model: nn.Module) -> bool:
    """True if the model has a `QuantizedLinear`."""
    return any(isinstance(module, QuantizedLinear) for module in model.modules())
