"""Activation functions by the names that checkpoints use."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UnsupportedConfig, nearest

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x) (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU with the tanh approximation."""
    return F.gelu(x, approximate="tanh")


# functions, not partials: a copied model holds the same objects, by which the fast paths know them
ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "quick_gelu": quick_gelu,
}


def activation(name: str) -> Activation:
    """Return the activation of a name. Raises UnsupportedConfig for an unknown name."""
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise UnsupportedConfig(f"The activation {name!r} is not computed here. {nearest(name, ACTIVATIONS)}") from None
