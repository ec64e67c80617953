"""Layers of a gated DeltaNet, and gated attention, as the kernels of decode steps read them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from ..kernels.cpu import native
from ..kernels.cpu.delta import fields, states_fit
from ..nn.attention.gated import GatedAttention
from ..nn.gated_delta_net import GatedDeltaNet
from ..nn.weights import Linear
from .fused_layers import kernel_activation
from .layer_spec import LayerSpec

PRODUCTS = ("qkv", "gate", "rates", "output")


def fits_delta_step(spec: LayerSpec | None) -> bool:
    """Return True if the kernels compute all that a mixer does in a decode step."""
    if spec is None or type(spec.layer) is not GatedDeltaNet or not spec.complete or spec.options:
        return False
    step: Any = spec.layer
    if any(spec.kind(name) is not Linear or getattr(step, name).bias is not None for name in PRODUCTS):
        return False
    if spec.part("convolution").options or None in map(kernel_activation, (step.act, step.norm.act)):
        return False
    widths = step.key_width % 16 == step.value_width % 16 == 0  # a vector of the kernels has 16 numbers
    heads, channels, values = len(step.decay), len(step.qkv.weight), len(step.gate.weight)
    shapes = {
        step.rates.weight.shape[0] == 2 * heads <= step.qkv.weight.shape[1],  # they lie where hidden states do
        step.convolution.weight.shape[0] == channels == sum(step.parts),
        values == step.parts[2] == heads * step.value_width == step.output.weight.shape[1],
        step.decay.shape == step.step.shape == (heads,),
        step.norm.weight.shape == (step.value_width,),
        len({step.qkv.weight.shape[1], step.gate.weight.shape[1], step.rates.weight.shape[1]}) == 1,
        step.output.weight.shape[0] == step.qkv.weight.shape[1],
    }
    return widths and shapes == {True}


def fits_gated_attention(spec: LayerSpec | None) -> bool:
    """Return True for gated attention of plain linear layers without options."""
    if spec is None or type(spec.layer) is not GatedAttention or not spec.complete or spec.options:
        return False
    return all(spec.kind(name) is Linear for name in ("q", "k", "v", "out"))


class DeltaSteps:
    """The structures of decode steps of some layers, whose states and slots each call sets anew.

    Args:
        layers: of a stack, by number. dtype: of hidden states.
    """

    def __init__(self, layers: dict[int, Any], dtype: torch.dtype) -> None:
        self.numbers, self.dtype = list(layers), dtype
        self._calls = (native.DeltaStep * len(layers))()
        self._weights = [self._fill(*one) for one in zip(self._calls, layers.values(), strict=True)]

    def address(self, place: int) -> int:
        """Return the address of one structure."""
        return ctypes.addressof(self._calls[place])

    def _fill(self, call: Any, step: GatedDeltaNet) -> dict[str, Any]:
        """Fill in what no call changes. Returns what must live as long as the structure."""
        weights = step.kernel_weights()
        for name, value in fields(weights).items():
            setattr(call, name, value)
        call.type = native.TYPES[self.dtype]
        return weights

    def bind(self, caches: Sequence[Any], slots: Any) -> bool:
        """Set the addresses of states and slots. Return True if the kernels can read them there.

        Args:
            caches: of all layers. slots: of each sequence, as `native.numbers`.
        """
        for call, number, weights in zip(self._calls, self.numbers, self._weights, strict=True):
            inputs, states = caches[number].inputs.states, caches[number].state.states
            if inputs is None or states is None or min(len(inputs), len(states)) <= max(slots, default=0):
                return False
            if not states_fit(inputs, states, weights, self.dtype):
                return False
            call.inputs, call.states, call.slots = inputs.data_ptr(), states.data_ptr(), ctypes.addressof(slots)
        return True


def has_delta(layer: Any) -> bool:
    """Return True for a layer whose mixer is a gated DeltaNet."""
    return isinstance(getattr(getattr(layer, "attention", None), "step", None), GatedDeltaNet)


def head_factor(step: Any) -> int:
    """Return how many numbers a head's query has for each of its width: gates follow it in gated attention."""
    return 2 if isinstance(step, GatedAttention) else 1
