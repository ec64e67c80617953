"""Layers of a gated DeltaNet, and gated attention, as the kernels of decode steps read them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels.activations import ACTIVATIONS
from ..kernels.cpu import native
from ..nn.attention.gated import GatedAttention
from ..nn.gated_delta_net import GatedDeltaNet
from ..nn.state_space import StateSpaceCache
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
    # a vector of the kernels has 16 numbers; the rates lie where hidden states do
    widths = step.key_width % 16 == step.value_width % 16 == 0
    heads, channels, values = len(step.decay), len(step.qkv.weight), len(step.gate.weight)
    shapes = {
        step.rates.weight.shape[0] == 2 * heads <= step.qkv.weight.shape[1],
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
        self._memory = [self._fill(*one) for one in zip(self._calls, layers.values(), strict=True)]

    def address(self, place: int) -> int:
        """Return the address of one structure."""
        return ctypes.addressof(self._calls[place])

    def _fill(self, call: Any, step: GatedDeltaNet) -> list[Tensor]:
        """Fill in what no call changes. Returns what must live as long as the structure."""
        fill = delta_arguments(step)
        for name, value in fill.items():
            setattr(call, name, value.data_ptr() if isinstance(value, Tensor) else value)
        call.type = native.TYPES[self.dtype]
        return [value for value in fill.values() if isinstance(value, Tensor)]

    def bind(self, caches: Sequence[Any], slots: Any) -> bool:
        """Set the addresses of states and slots. Return True if the kernels can read them there.

        Args:
            caches: of all layers. slots: of each sequence, as `native.numbers`.
        """
        for call, number in zip(self._calls, self.numbers, strict=True):
            places = state_addresses(caches[number], call, self.dtype, max(slots, default=0) + 1)
            if places is None:
                return False
            call.inputs, call.states = places
            call.slots = ctypes.addressof(slots)
        return True


def delta_arguments(step: GatedDeltaNet) -> dict[str, Any]:
    """Return the fields of `native.DeltaStep` that follow from the weights, tensors in float32."""
    heads, (keys, _, _) = len(step.decay), step.parts
    with torch.no_grad():
        return {
            "taps": step.convolution.weight.detach().float().t().contiguous(),  # (kernel, channels)
            "decay": -torch.exp(step.decay.detach().float()),  # (heads,)
            "step": step.step.detach().float().contiguous(),
            "norm": step.norm.weight.detach().float().contiguous(),
            "heads": heads,
            "key_heads": keys // step.key_width,
            "key_width": step.key_width,
            "value_width": step.value_width,
            "kernel": step.convolution.weight.shape[1],
            "channels": step.convolution.weight.shape[0],
            "norm_eps": step.norm.eps,
            "strength": step.strength,
            "act": ACTIVATIONS[kernel_activation(step.act) or ""],
            "gate_act": ACTIVATIONS[kernel_activation(step.norm.act) or ""],
        }


def state_addresses(memory: StateSpaceCache, call: Any, dtype: torch.dtype, slots: int) -> tuple[int, int] | None:
    """Return where a layer's last inputs and states are; None where the kernels cannot read them."""
    inputs, states = memory.inputs.states, memory.state.states
    if inputs is None or states is None:
        return None
    shapes = (call.kernel - 1, call.channels), (call.heads, call.key_width, call.value_width)
    for x, shape, kind in ((inputs, shapes[0], dtype), (states, shapes[1], torch.float32)):
        if x.shape[1:] != shape or len(x) < slots or x.dtype is not kind or not x.is_contiguous() or not x.is_cpu:
            return None
    return inputs.data_ptr(), states.data_ptr()


def has_delta(layer: Any) -> bool:
    """Return True for a layer whose mixer is a gated DeltaNet."""
    return isinstance(getattr(layer.attention, "step", None), GatedDeltaNet)


def head_factor(step: Any) -> int:
    """Return how many numbers a head's query has for each of its width: gates follow it in gated attention."""
    return 2 if isinstance(step, GatedAttention) else 1
