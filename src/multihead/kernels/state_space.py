"""Weights of mixers with a short convolution, as the kernels of decode steps read them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ConvolutionWeights:
    """A causal convolution of each channel; all float32.

    Args:
        taps: (kernel, channels), of the newest token last. bias: (channels,), or none.
    """

    taps: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class MambaWeights:
    """Mamba 2 between its two projections; tensors are float32.

    Args:
        rates: (heads,), the decay of a state for a time of 1, below 0. skip, step: (heads,).
        norm: (heads * width,), or none for a gate alone. norm_groups: of channels that are normed together.
        after: the gate multiplies what is normed.
        heads, width: of inputs. count: numbers that a channel remembers. groups: of heads that share vectors.
        limits: bounds of the time steps. act: name of the activation after the convolution.
    """

    convolution: ConvolutionWeights
    rates: Tensor
    skip: Tensor
    step: Tensor
    norm: Tensor | None
    norm_groups: int
    after: bool
    eps: float
    heads: int
    width: int
    count: int
    groups: int
    limits: tuple[float, float]
    act: str
