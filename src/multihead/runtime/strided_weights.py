"""Linear layers of a CPU over weights as they were loaded: described to the kernels, and not copied."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.activations import ACTIVATIONS
from ..kernels.cpu import native
from ..kernels.cpu.linear import row_stride, weight_layout
from ..kernels.quantization.panels import PANEL
from ..nn.feedforward import GatedFeedForward
from ..nn.gated_delta_net import GatedDeltaNet
from ..nn.layer import CrossLayer, Layer, ParallelLayer
from ..nn.weights import NormedLinear
from .delta_layers import fits_delta_step, fits_gated_attention, head_factor
from .fused_layers import fusable, kernel_activation
from .fused_linear_cpu import FusedLinear, stacked_biases
from .layer_blocks import Block, blocks
from .layer_spec import LayerSpec, NormSpec

PRODUCTS: Mapping[str, tuple[tuple[str, ...], ...]] = {  # linear layers that are read as one, of each residual
    "attention": (("q", "k", "v"), ("out",)), "cross": (("q",), ("out",)), "ffn": (("gate", "up"), ("down",)),
    "delta": (("qkv", "gate"), ("rates",), ("output",)),
}  # fmt: skip


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
        self.memory = [self._struct, *self._tensors]  # what the address points at


def attention_of(layer: Any) -> Any:
    """Return the attention of a layer, which a residual may hold."""
    return getattr(layer.attention, "step", layer.attention)


Weight = FusedLinear | StridedWeight


@dataclass(frozen=True)
class LayerWeights:
    """The weights of a layer's steps.

    Args:
        widths: outputs of queries, keys and values.
        query, cross: of cross-attention: the queries, and the result.
        rates: of a gated DeltaNet, whose `qkv` gives the gates of its outputs, too.
    """

    qkv: Weight
    out: Weight
    into: Weight
    down: Weight
    widths: tuple[int, int, int]
    query: Weight | None = None
    cross: Weight | None = None
    rates: Weight | None = None

    @property
    def products(self) -> list[Weight]:
        products = self.qkv, self.out, self.into, self.down, self.query, self.cross, self.rates
        return [product for product in products if product is not None]

    @classmethod
    def fused(cls, layer: Any) -> LayerWeights:
        """Return the weights of a layer of fused steps."""
        step, ffn = layer.attention.step, layer.ffn.step
        cross = (layer.cross.step.query, layer.cross.step.output) if isinstance(layer, CrossLayer) else (None, None)
        return cls(step.qkv, step.output, ffn.into, ffn.output, step.widths, *cross)

    @classmethod
    def strided(cls, layer: LayerSpec) -> LayerWeights:
        """Return the weights of a layer that `has_strided_weights`, without a copy."""
        found = {block.name: block for block in blocks(layer)}
        attention, ffn, reads = found["attention"], found["ffn"], found.get("cross")
        step, other = attention.module, ffn.module
        gated = isinstance(other, GatedFeedForward)
        up = [other.gate, other.up] if gated else [other.up]
        cross = [] if reads is None else [_strided([reads.module.q], norm=reads.before), _last(reads)]
        into, down = _strided(up, act=kernel_activation(other.act), gated=gated, norm=ffn.before), _last(ffn)
        if isinstance(step, GatedDeltaNet):
            qkv, rates = (_strided(x, norm=attention.before) for x in ([step.qkv, step.gate], [step.rates]))
            return cls(qkv, _last(attention), into, down, (0, 0, 0), rates=rates)
        return cls(
            _strided([step.q, step.k, step.v], norm=attention.before),
            _last(attention),
            into,
            down,
            (len(step.q.weight), len(step.k.weight), len(step.v.weight)),
            *cross,
        )


def has_strided_weights(layer: LayerSpec | None, dtype: torch.dtype) -> bool:
    """Return True if the kernels can read a layer's weights, of this dtype, where they are."""
    if layer is None or type(layer.layer) not in (Layer, CrossLayer, ParallelLayer):
        return False
    found = list(blocks(layer))
    for block in found:
        delta = fits_delta_step(block.step)
        if not block.fits or not (delta or fits_gated_attention(block.step) or fusable(block.step, NormedLinear)):
            return False
        linears, products = block.linears, PRODUCTS["delta" if delta else block.name]
        groups = [[linears[part] for part in product if part in linears] for product in products]
        if not all(same_layout(linears, dtype) for linears in groups):
            return False
    return _shapes_fit(found)


def same_layout(linears: Sequence[Any], dtype: torch.dtype) -> bool:
    """Return True if one product can read the weights of some layers: of this dtype, and alike in memory."""
    weights = [part.weight for part in linears]
    layouts = {(weight_layout(weight), row_stride(weight)) for weight in weights}
    return (
        len(layouts) == 1 and (None, row_stride(weights[0])) not in layouts and all(w.dtype is dtype for w in weights)
    )


def _shapes_fit(layer: Sequence[Block]) -> bool:
    """Return True if a layer's weights, biases and norms go together; torch raises the error for those that do not."""
    states = len(layer[0].linears[layer[0].last].weight)  # width of hidden states
    for block in layer:
        linears = dict(block.linears)
        if any(x.bias is not None and x.bias.shape != (len(x.weight),) for x in linears.values()):
            return False
        last = linears.pop(block.last).weight  # (width, inner)
        norms = (block.before, states), (block.after, states), (block.inside, last.shape[1])
        weights = [(x, width) for norm, width in norms if norm for x in (norm.scale, norm.shift) if x is not None]
        if any(x.shape != (width,) for x, width in weights):
            return False
        if isinstance(block.module, GatedDeltaNet):  # `fits_delta_step` has compared its other shapes
            continue
        inner = {name: len(x.weight) for name, x in linears.items()}  # outputs of the products before the last one
        if "q" in inner:
            inner["q"] //= head_factor(block.module)
        if len(last) != states or last.shape[1] != inner.get("up", inner.get("q")):
            return False
        if inner.get("gate", inner.get("up")) != inner.get("up") or inner.get("k") != inner.get("v"):
            return False
        source = {"k", "v"} if block.name == "cross" else set()  # these read the source's states
        if any(x.weight.shape[1] != states for name, x in linears.items() if name not in source):
            return False
        # queries share key heads evenly, and key heads are whole
        if "k" in inner and (not inner["k"] or inner["q"] % inner["k"] or inner["k"] % block.module.head_width):
            return False
    return True


def _last(block: Block) -> StridedWeight:
    """Return the last product of a block, with the norm that it reads through and what comes before the sum."""
    linear = block.linears[block.last]
    return _strided([linear], norm=block.inside, after=block.after, inner=block.inner, scale=block.scale)


def _strided(linears: Sequence[Any], **options: Any) -> StridedWeight:
    return StridedWeight([part.weight for part in linears], [part.bias for part in linears], **options)
