"""Decode steps of mixers with a short convolution in the C++ kernels."""

from __future__ import annotations

from ctypes import byref
from typing import Any

import torch
from torch import Tensor

from ..activations import ACTIVATIONS
from ..layout import plain
from ..state_space import ConvolutionWeights, MambaWeights
from . import native
from .native import library


def convolution_step(x: Tensor, weights: ConvolutionWeights, inputs: Tensor, slots: Tensor | slice) -> Tensor | None:
    """Compute `Backend.convolution_step`; None for a layout that the kernel does not read."""
    channels = weights.taps.shape[1]
    convolution = _convolution(x, weights, inputs, slots)
    if convolution is None or x.shape[1] != 3 * channels:
        return None
    out = torch.empty(len(x), channels, dtype=x.dtype)  # (sequences, channels)
    arguments = native.ConvolutionStep(
        convolution=convolution, x=x.data_ptr(), out=out.data_ptr(), stride=x.stride(0)
    )  # fmt: skip
    library().mh_convolution_step(byref(arguments), torch.get_num_threads())
    return out


def mamba_step(
    x: Tensor, weights: MambaWeights, inputs: Tensor, states: Tensor, slots: Tensor | slice
) -> Tensor | None:
    """Compute `Backend.mamba_step`; None for a layout that the kernel does not read."""
    w, channels = weights, weights.convolution.taps.shape[1]
    states = states[slots] if isinstance(slots, slice) else states
    inner = w.heads * w.width
    convolution = _convolution(x, w.convolution, inputs, slots)
    fits = w.count % 16 == 0 and w.act in ACTIVATIONS and x.shape[1] == inner + channels + w.heads
    if convolution is None or not fits or not plain(states, x, torch.float32, len(states), w.heads, w.width, w.count):
        return None
    out = torch.empty(len(x), inner, dtype=x.dtype)  # (sequences, inner)
    workspace = torch.empty(len(x) * (channels + inner), dtype=torch.float32)
    low, high = w.limits
    arguments = native.MambaStep(
        convolution=convolution, x=x.data_ptr(), out=out.data_ptr(), states=states.data_ptr(),
        workspace=workspace.data_ptr(), rates=w.rates.data_ptr(), skip=w.skip.data_ptr(), step=w.step.data_ptr(),
        norm=None if w.norm is None else w.norm.data_ptr(), stride=x.stride(0), heads=w.heads, width=w.width,
        count=w.count, groups=w.groups, norm_groups=w.norm_groups, low=low, high=high, eps=w.eps,
        act=ACTIVATIONS[w.act], after=int(w.after),
    )  # fmt: skip
    library().mh_mamba_step(byref(arguments), torch.get_num_threads())
    return out


def _convolution(x: Tensor, weights: ConvolutionWeights, inputs: Tensor, slots: Tensor | slice) -> Any:
    """Return `native.Convolution`; None for a layout that the kernels do not read."""
    kernel, channels = weights.taps.shape
    if x.ndim != 2 or x.stride(1) != 1 or inputs.ndim != 3:
        return None
    rows = None if isinstance(slots, slice) else slots
    if isinstance(slots, slice):  # neighbours, in the order of the sequences
        inputs = inputs[slots]
    fits = plain(inputs, x, x.dtype, len(inputs), kernel - 1, channels) and plain(rows, x, torch.int64, len(x))
    if not fits or (rows is None and len(inputs) != len(x)):
        return None
    return native.Convolution(
        inputs=inputs.data_ptr(), slots=None if rows is None else rows.data_ptr(), taps=weights.taps.data_ptr(),
        bias=None if weights.bias is None else weights.bias.data_ptr(), sequences=len(x), channels=channels,
        kernel=kernel, type=native.TYPES[x.dtype],
    )  # fmt: skip
