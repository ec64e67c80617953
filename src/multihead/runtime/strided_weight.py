"""One product of a CPU over weights as they were loaded: described to the kernels, and not copied."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.activations import ACTIVATIONS
from ..kernels.cpu import native
from ..kernels.cpu.linear import row_stride, weight_layout
from ..kernels.quantization.panels import PANEL
from .fused_linear_cpu import stacked_biases
from .layer_spec import NormSpec


class StridedWeight:
    """The product of a `FusedLinear`, of weights that are not copied: `after(add + act(norm(x) @ weight.T + bias))`.

    Args:
        weights: (outputs, inputs) each, one under the other, at most three, for which `same_layout` holds.
        biases: of each, or none. gated: of the two weights, the first is activated and multiplies the second.
        norm: before the product. after: of the sum, or where `inner` of the product before the sum.
        scale: of the product before the sum.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        *,
        act: str | None = None,
        gated: bool = False,
        norm: NormSpec | None = None,
        after: NormSpec | None = None,
        inner: bool = False,
        scale: float = 1.0,
    ) -> None:
        norm, after = norm or NormSpec(), after or NormSpec()
        counts = [len(weight) for weight in weights]
        self.outputs = counts[0] if gated else sum(counts)  # a gate and its up value give one output
        self.shape = sum(counts), weights[0].shape[1]  # (outputs of all parts, inputs)
        # a gated panel has 32 gates and 32 ups
        width = 2 * (-(-self.outputs // (PANEL // 2)) * (PANEL // 2)) if gated else self.outputs
        bias = stacked_biases(weights, biases, gated)
        bias = None if bias is None else F.pad(bias, (0, -len(bias) % PANEL))  # kernels read whole panels
        self._tensors = [*weights, norm.weight, norm.bias, after.weight, after.bias, bias]  # alive while they are read
        pointers = [None if x is None else x.data_ptr() for x in self._tensors]
        self.kind = weight_layout(weights[0]) or 0
        self._struct = native.Weight(
            kind=self.kind, act=ACTIVATIONS[act] if act else 0, gated=int(gated),
            norm=norm.kind, after=after.kind, inner=int(inner), norm_eps=norm.eps, after_eps=after.eps,
            scale=0.0 if scale == 1.0 else scale, inputs=self.shape[1], outputs=self.outputs, width=width,
            norm_weight=pointers[-5], norm_bias=pointers[-4],
            after_weight=pointers[-3], after_bias=pointers[-2], bias=pointers[-1],
            parts=tuple(pointers[: len(weights)]), counts=tuple(counts), row_stride=row_stride(weights[0]),
        )  # fmt: skip
        self.address = ctypes.addressof(self._struct)
        self.bias_address = pointers[-1]
        self.memory = [self._struct, *self._tensors]  # what the address points at


def same_layout(linears: Sequence[Any], dtype: torch.dtype) -> bool:
    """Return True if one product can read the weights of some layers: of this dtype, and alike in memory."""
    weights = [part.weight for part in linears]
    layouts = {(weight_layout(weight), row_stride(weight)) for weight in weights}
    return (
        len(layouts) == 1 and (None, row_stride(weights[0])) not in layouts and all(w.dtype is dtype for w in weights)
    )
