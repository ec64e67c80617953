"""Linear layers that hold their weight in 8 or 4 bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels.quantized import dequantize, product
from ..kernels.quantized import quantize as coded
from .weights import Linear

LAYER = re.compile(r"^(?!head\.)(.*\.)?layers\.")  # the path of what lies in a backbone's layers


class QuantizedLinear(Linear):
    """A linear layer whose weight is buffers: `codes` and float32 `scales`. Made of a `Linear` by `hold`."""

    codes: Tensor
    scales: Tensor
    sample: Tensor  # empty; its dtype is what the weight is decoded to, and follows `model.to(dtype)`

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(outputs, inputs), decoded anew each time."""
        return self.decoded()

    def decoded(self, dtype: torch.dtype | None = None) -> Tensor:
        return dequantize(self.codes, self.scales, self.shape, dtype or self.sample.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def forward(self, input: Tensor) -> Tensor:
        return product(self.widen(input), self.codes, self.scales, self.shape, self.bias)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        scales = self.scales
        super()._apply(fn, recurse)
        self.scales = scales.to(self.codes.device)  # they keep float32, whatever the model's precision becomes
        return self


def hold(linear: Linear, kind: str, device: torch.device | str | None = None) -> None:
    """Turns a layer into a `QuantizedLinear`, in place. `device`: where the codes go, None for where the weight is.

    Raises:
        UnsupportedOption: a kind that is not int8 or int4. InvalidInput: weights that are not finite.
    """
    weight = linear.weight.detach()
    codes, scales = coded(weight.to(device), kind)
    del linear.weight
    linear.__class__ = QuantizedLinear
    linear.register_buffer("codes", codes)
    linear.register_buffer("scales", scales)
    linear.register_buffer("sample", weight.new_empty(0, device=codes.device), persistent=False)


def release(linear: QuantizedLinear) -> None:
    """Turns a layer back into a `Linear`, in place, with the decoded weight."""
    weight = linear.decoded()
    del linear.codes, linear.scales, linear.sample
    linear.__class__ = Linear  # type: ignore[assignment]
    linear.register_parameter("weight", nn.Parameter(weight))


def quantize(model: nn.Module, kind: str, device: torch.device | str | None = None) -> None:
    """Holds every linear layer of a backbone's layers in `kind` ("int8" or "int4"), in place, one after the other.

    Embeddings, heads and the routers of experts stay as they are.

    Raises:
        InvalidInput: the model has no such layer, or adapters already. UnsupportedOption: another kind.
    """
    linears = {path: m for path, m in model.named_modules() if isinstance(m, Linear) and LAYER.match(path)}
    changed = next((path for path, m in linears.items() if type(m) not in (Linear, QuantizedLinear)), None)
    if changed is not None:
        raise InvalidInput(f"{changed} has an adapter already; quantize the model first, then add adapters.")
    found = [m for path, m in linears.items() if type(m) is Linear and not path.endswith(".router")]
    if not found:
        raise InvalidInput(f"{type(model).__name__} has no linear layers left to hold in {kind}.")
    for linear in found:
        hold(linear, kind, device)


def is_quantized(model: nn.Module) -> bool:
    return any(isinstance(module, QuantizedLinear) for module in model.modules())
