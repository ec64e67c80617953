"""Decode steps of a gated DeltaNet in C++."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import addressof, byref
from typing import Any

import torch
from torch import Tensor

from ..activations import ACTIVATIONS
from . import native
from .native import library


def delta_step(
    mixed: Tensor,
    gate: Tensor,
    rates: Tensor,
    inputs: Tensor,
    states: Tensor,
    slots: Tensor | slice,
    weights: Mapping[str, Any],
) -> Tensor | None:
    """Return the outputs that `Backend.delta_step` describes; None for shapes or types that the kernel does not fit."""
    if not states_fit(inputs, states, weights, mixed.dtype) or not all(map(native.serves, (mixed, gate, rates))):
        return None
    parts = (mixed, gate, rates)
    if any(x.stride(1) != 1 or x.dtype is not mixed.dtype for x in parts):
        return None
    count, values = len(mixed), weights["heads"] * weights["value_width"]
    numbers = range(slots.start, slots.stop) if isinstance(slots, slice) else slots.tolist()
    where, out = native.numbers(numbers), torch.empty(count, values, dtype=mixed.dtype)
    call = native.DeltaStep(
        mixed=mixed.data_ptr(), gate=gate.data_ptr(), rates=rates.data_ptr(), out=out.data_ptr(),
        mixed_stride=mixed.stride(0), gate_stride=gate.stride(0), rates_stride=rates.stride(0), sequences=count,
        inputs=inputs.data_ptr(), states=states.data_ptr(), slots=addressof(where), type=native.TYPES[mixed.dtype],
        **fields(weights),
    )  # fmt: skip
    library().mh_delta_step(byref(call), torch.get_num_threads())
    return out


def fields(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `native.DeltaStep` that follow from weights; the caller keeps their tensors alive."""
    acts = {name: ACTIVATIONS[weights[name]] for name in ("act", "gate_act")}
    found = {name: x.data_ptr() if isinstance(x, Tensor) else x for name, x in weights.items()}
    return {**found, **acts}


def weights_fit(weights: Mapping[str, Any]) -> bool:
    """Return whether the kernel computes a mixer with these weights: its vectors have 16 numbers."""
    known = weights["act"] in ACTIVATIONS and weights["gate_act"] in ACTIVATIONS
    return known and weights["key_width"] % 16 == weights["value_width"] % 16 == 0


def states_fit(inputs: Tensor, states: Tensor, weights: Mapping[str, Any], dtype: torch.dtype) -> bool:
    """Return whether the kernel reads states (slots, ...) where they are."""
    shape = weights["heads"], weights["key_width"], weights["value_width"]
    fit = inputs.shape[1:] == (weights["kernel"] - 1, weights["channels"]) and states.shape[1:] == shape
    fit = fit and inputs.dtype is dtype and states.dtype is torch.float32 and weights_fit(weights)
    return fit and all(x.is_contiguous() and x.is_cpu for x in (inputs, states))
