"""Layers whose weights stay as they were stored, as the kernels are told of them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.activations import ACTIVATIONS
from ..kernels.cpu import native
from ..kernels.cpu.linear import row_stride, weight_layout
from ..kernels.packed import PANEL
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.norms import Finite
from ..nn.weights import Linear
from .fused_layers import can_join, named
from .fused_linear_cpu import Norm, Product, joined_biases

NOTHING = (nn.Identity, Finite)  # what changes nothing, in the precisions that the kernels know


class Unpacked:
    """What `Product` computes, of weights that are not copied: `after(add + act(norm(x) @ weight.T + bias))`.

    Args:
        weights: (outputs, inputs) each, one under the other, at most three, which `lie` alike.
        biases: of each, or none. gated: of the two weights, the first is activated and multiplies the second.
        norm: before the product. after: of the sum.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        *,
        act: str | None = None,
        gated: bool = False,
        norm: Norm | None = None,
        after: Norm | None = None,
    ) -> None:
        norm, after = norm or Norm(), after or Norm()
        counts = [len(weight) for weight in weights]
        self.outputs = counts[0] if gated else sum(counts)
        self.shape = sum(counts), weights[0].shape[1]
        width = 2 * (-(-self.outputs // (PANEL // 2)) * (PANEL // 2)) if gated else self.outputs
        bias = joined_biases(weights, biases, gated)
        bias = None if bias is None else F.pad(bias, (0, -len(bias) % PANEL))  # whole panels are read
        self._held = [*weights, norm.weight, norm.bias, after.weight, after.bias, bias]
        places = [None if x is None else x.data_ptr() for x in self._held]
        self.kind = weight_layout(weights[0]) or 0
        self._struct = native.Weight(
            kind=self.kind, act=ACTIVATIONS[act] if act else 0, gated=int(gated),
            norm=norm.kind, after=after.kind, norm_eps=norm.eps, after_eps=after.eps, inputs=self.shape[1],
            outputs=self.outputs, width=width, norm_weight=places[-5], norm_bias=places[-4], after_weight=places[-3],
            after_bias=places[-2], bias=places[-1], parts=tuple(places[: len(weights)]), counts=tuple(counts),
            apart=row_stride(weights[0]),
        )  # fmt: skip
        self.address = ctypes.addressof(self._struct)


@dataclass(frozen=True)
class Parts:
    """The products of a layer's steps, and how many outputs queries, keys and values have.

    Args:
        query, cross: of what a source is read with: its queries, and the result's.
    """

    qkv: Product | Unpacked
    out: Product | Unpacked
    into: Product | Unpacked
    down: Product | Unpacked
    widths: tuple[int, int, int]
    query: Product | Unpacked | None = None
    cross: Product | Unpacked | None = None

    @classmethod
    def of(cls, layer: Any) -> Parts:
        """Of a prepared layer."""
        step, ffn = layer.attention.step, layer.ffn.step
        reads = (layer.cross.step.query, layer.cross.step.output) if isinstance(layer, CrossLayer) else (None, None)
        return cls(step.qkv, step.output, ffn.into, ffn.output, step.widths, *reads)

    def fit(self, states: int, head_width: int) -> bool:
        """Whether the products go together in a layer of states of this width; torch says what is wrong with others."""
        q, k, v = self.widths
        fine = k == v and k > 0 and q + k + v == self.qkv.outputs and q % k == 0 and k % head_width == 0
        fine = fine and self.out.shape[1] == q and self.down.shape[1] == self.into.outputs
        into = [x for x in (self.qkv, self.into, self.query) if x is not None]
        out = [x for x in (self.out, self.down, self.cross) if x is not None]
        return fine and all(x.shape[1] == states for x in into) and all(x.outputs == states for x in out)


def unpacked(layer: Any) -> Parts:
    """The products of a layer that `can_stay` lets through."""
    step, ffn, (attention, rest) = layer.attention.step, layer.ffn.step, (layer.attention, layer.ffn)
    gated = isinstance(ffn, GatedFeedForward)
    up = [ffn.gate, ffn.up] if gated else [ffn.up]
    return Parts(
        _of([step.q, step.k, step.v], norm=Norm.of(attention.before)),
        _of([step.out], after=Norm.of(attention.after)),
        _of(up, act=named(ffn.act), gated=gated, norm=Norm.of(rest.before)),
        _of([ffn.down], after=Norm.of(rest.after)),
        (len(step.q.weight), len(step.k.weight), len(step.v.weight)),
        *(_reads(layer.cross) if isinstance(layer, CrossLayer) else ()),
    )


def can_stay(layer: Any, dtype: torch.dtype) -> bool:
    """Whether the products of a layer can be made of its weights as they are, in their precision."""
    if type(layer) not in (Layer, CrossLayer):
        return False
    cross = [layer.cross] if type(layer) is CrossLayer else []
    for residual in (layer.attention, layer.ffn, *cross):
        if type(residual) is not Residual or type(residual.out) is not nn.Identity or residual.scale != 1.0:
            return False
        normed = all(Norm.of(norm) or type(norm) in NOTHING for norm in (residual.before, residual.after))
        if not normed or not can_join(residual.step):
            return False
    step, ffn = layer.attention.step, layer.ffn.step
    up = [part for part in (getattr(ffn, "gate", None), ffn.up) if part is not None]
    groups = [[step.q, step.k, step.v], [step.out], up, [ffn.down]]
    groups += [[part] for residual in cross for part in (residual.step.q, residual.step.out)]
    sized = all(_sized(residual) for residual in (layer.attention, layer.ffn, *cross))
    if not sized or not all(lie_alike(each, dtype) for each in groups):
        return False
    return unpacked(layer).fit(len(step.out.weight), step.head_width)


def _sized(residual: Any) -> bool:
    """Whether a residual's norms are as wide as what its step gives, and biases as long as their layers' outputs."""
    step: Any = residual.step
    linears = [part for part in step.children() if isinstance(part, Linear)]
    last: Any = step.down if isinstance(step, (FeedForward, GatedFeedForward)) else step.out
    width = len(last.weight)
    norms = [norm for norm in (Norm.of(residual.before), Norm.of(residual.after)) if norm is not None]
    fine = all(x is None or x.shape == (width,) for norm in norms for x in (norm.weight, norm.bias))
    return fine and all(x.bias is None or x.bias.shape == (len(x.weight),) for x in linears)


def lie_alike(linears: Sequence[Any], dtype: torch.dtype) -> bool:
    """Whether the weights of some layers, of this precision, lie so that one product can read them."""
    weights = [part.weight for part in linears]
    ways = {(weight_layout(weight), row_stride(weight)) for weight in weights}
    return len(ways) == 1 and (None, row_stride(weights[0])) not in ways and all(w.dtype is dtype for w in weights)


def _reads(cross: Any) -> tuple[Unpacked, Unpacked]:
    query = _of([cross.step.q], norm=Norm.of(cross.before))
    return query, _of([cross.step.out], after=Norm.of(cross.after))


def _of(linears: Sequence[Any], **options: Any) -> Unpacked:
    return Unpacked([part.weight for part in linears], [part.bias for part in linears], **options)
