"""Activation functions by the names that checkpoints use."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnsupportedConfig, nearest

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x) (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU with the tanh approximation."""
    return F.gelu(x, approximate="tanh")


def bounded_gelu(x: Tensor) -> Tensor:
    """GELU between -10 and 10 (Wu et al., 2020, arXiv:2004.09602)."""
    return F.gelu(x).clamp(-10, 10)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x) squared (So et al., 2021, arXiv:2109.08668)."""
    return F.relu(x).square()


def laplace(x: Tensor) -> Tensor:
    """Distribution function of a normal that is close to squared ReLU and bounded (Ma et al., 2022, arXiv:2209.10655).

    Its mean and deviation are rounded as the paper's code has them.
    """
    return 0.5 * (1.0 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def root_softplus(x: Tensor) -> Tensor:
    """Square root of softplus (scores of experts in DeepSeek V4)."""
    return F.softplus(x).sqrt()


def linear(x: Tensor) -> Tensor:
    """Return x as it is."""
    return x


class PReLU(nn.Module):
    """x, or a learned multiple of it below 0 (He et al., 2015, arXiv:1502.01852)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        parameter.fill_(0.25)

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight)


class XIELU(nn.Module):
    """Expanded integral of ELU: a parabola above 0, an exponential below (Huang and Schlag, 2024, arXiv:2411.13010).

    Checkpoints store the two curvatures, each as the number whose softplus it is, and two constants.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha_p, self.alpha_n = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))
        # constants that never learn
        self.beta = nn.Parameter(torch.empty(()), requires_grad=False)
        self.eps = nn.Parameter(torch.empty(()), requires_grad=False)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Set the paper's values: slope 0.5 at 0, and curvatures 0.8, of which `beta` is part below 0."""
        values = {"alpha_p": math.log(math.expm1(0.8)), "alpha_n": math.log(math.expm1(0.3)), "beta": 0.5, "eps": -1e-6}
        parameter.fill_(values[name])

    def forward(self, x: Tensor) -> Tensor:
        above, below = F.softplus(self.alpha_p), self.beta + F.softplus(self.alpha_n)
        # expm1 is steep above 0, where its value is not taken and would make gradients infinite
        curve = torch.where(x > 0, above * x * x, (torch.expm1(torch.minimum(x, self.eps)) - x) * below)
        return curve + self.beta * x


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
    "gelu_10": bounded_gelu,
    "gelu_accurate": tanh_gelu,
    "gelu_python": F.gelu,
    "gelu_python_tanh": tanh_gelu,
    "hardswish": F.hardswish,
    "laplace": laplace,
    "leaky_relu": F.leaky_relu,
    "linear": linear,
    "mish": F.mish,
    "relu2": squared_relu,
    "relu6": F.relu6,
    "sqrtsoftplus": root_softplus,
}
LEARNED: dict[str, type[nn.Module]] = {"prelu": PReLU, "xielu": XIELU}  # activations with parameters of their own


def activation(name: str) -> Activation:
    """Return the activation of a name; a new module for one that learns. Raises UnsupportedConfig for another name."""
    if name in LEARNED:
        return LEARNED[name]()
    try:
        return ACTIVATIONS[name]
    except KeyError:
        known = (*ACTIVATIONS, *LEARNED)
        raise UnsupportedConfig(f"The activation {name!r} is not computed here. {nearest(name, known)}") from None
