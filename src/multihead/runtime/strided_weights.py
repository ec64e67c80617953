"""Weights of whole layers as the kernels of decode steps read them: as they were loaded, or packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..nn.feedforward import GatedFeedForward
from ..nn.gated_delta_net import GatedDeltaNet
from ..nn.layer import CrossLayer, Layer, ParallelLayer
from ..nn.weights import NormedLinear
from .delta_layers import fits_delta_step, fits_gated_attention, head_factor
from .expert_layers import EXPERTS, ExpertsWeights, fits_experts
from .fused_layers import FusedFeedForward, FusedResidual, fusable, is_joined, kernel_activation
from .fused_linear_cpu import FusedLinear
from .layer_blocks import Block, blocks
from .layer_spec import LayerSpec, norm_spec
from .strided_weight import StridedWeight, same_layout

PRODUCTS: Mapping[str, tuple[tuple[str, ...], ...]] = {  # linear layers that are read as one, of each residual
    "attention": (("q", "k", "v"), ("out",)), "cross": (("q",), ("out",)), "ffn": (("gate", "up"), ("down",)),
    "delta": (("qkv", "gate"), ("rates",), ("output",)),
}  # fmt: skip


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
        experts: in place of `into` and `down`.
    """

    qkv: Weight
    out: Weight
    into: Weight | None
    down: Weight | None
    widths: tuple[int, int, int]
    query: Weight | None = None
    cross: Weight | None = None
    rates: Weight | None = None
    experts: ExpertsWeights | None = None

    @property
    def products(self) -> list[Weight]:
        products = self.qkv, self.out, self.into, self.down, self.query, self.cross, self.rates
        return [product for product in products if product is not None]

    @property
    def memory(self) -> list[Any]:
        """Objects that the addresses of the weights point at."""
        found = [product.memory for product in self.products]
        return found if self.experts is None else [*found, self.experts.memory]

    @classmethod
    def fused(cls, layer: Any) -> LayerWeights:
        """Return the weights of a layer of fused steps."""
        step, ffn = layer.attention.step, layer.ffn.step
        if isinstance(ffn, EXPERTS):
            experts = ExpertsWeights(ffn, norm_spec(layer.ffn.before), norm_spec(layer.ffn.after), joined=True)
            return cls(step.qkv, step.output, None, None, step.widths, experts=experts)
        cross = (layer.cross.step.query, layer.cross.step.output) if isinstance(layer, CrossLayer) else (None, None)
        return cls(step.qkv, step.output, ffn.into, ffn.output, step.widths, *cross)

    @classmethod
    def strided(cls, layer: LayerSpec) -> LayerWeights:
        """Return the weights of a layer that `has_strided_weights`, without a copy."""
        found = {block.name: block for block in blocks(layer)}
        attention, ffn, reads = found["attention"], found["ffn"], found.get("cross")
        step = attention.module
        into, down, experts = _feed_forward(ffn)
        query, cross = (None, None) if reads is None else (_strided([reads.module.q], norm=reads.before), _last(reads))
        if isinstance(step, GatedDeltaNet):
            qkv, rates = (_strided(x, norm=attention.before) for x in ([step.qkv, step.gate], [step.rates]))
            return cls(qkv, _last(attention), into, down, (0, 0, 0), rates=rates, experts=experts)
        return cls(
            _strided([step.q, step.k, step.v], norm=attention.before),
            _last(attention),
            into,
            down,
            (len(step.q.weight), len(step.k.weight), len(step.v.weight)),
            query,
            cross,
            experts=experts,
        )


def has_strided_weights(layer: LayerSpec | None, dtype: torch.dtype) -> bool:
    """Return True if the kernels can read a layer's weights, of this dtype, where they are."""
    if layer is None or type(layer.layer) not in (Layer, CrossLayer, ParallelLayer):
        return False
    found = list(blocks(layer))
    for block in found:
        if isinstance(block.step and block.step.layer, EXPERTS):
            if not block.fits or not fits_experts(block.step, dtype):
                return False
            continue
        delta = fits_delta_step(block.step)
        if not block.fits or not (delta or fits_gated_attention(block.step) or fusable(block.step, NormedLinear)):
            return False
        linears, products = block.linears, PRODUCTS["delta" if delta else block.name]
        groups = [[linears[part] for part in product if part in linears] for product in products]
        if not all(same_layout(linears, dtype) for linears in groups):
            return False
    return _shapes_fit(found)


def has_fused_weights(layer: LayerSpec | None) -> bool:
    """Return True for a layer of fused attention and a fused feed-forward, or packed experts behind their router."""
    if layer is None or type(layer.layer) is not Layer or not layer.complete:
        return False
    attention, ffn = layer.part("attention"), layer.part("ffn")
    if not is_joined(attention) or type(ffn.layer) is not FusedResidual or ffn.options:
        return False
    if ffn.kind("step") is FusedFeedForward:
        return is_joined(ffn)
    norms = all(ffn.part(name).norm is not None for name in ("before", "after")) and ffn.kind("out") is nn.Identity
    return norms and ffn.layer.step is ffn.layer.fused_step[0] and fits_experts(ffn.part("step"), None)


def _shapes_fit(layer: Sequence[Block]) -> bool:
    """Return True if a layer's weights, biases and norms go together; torch raises the error for those that do not."""
    states = len(layer[0].linears[layer[0].last].weight)  # width of hidden states
    for block in layer:
        if isinstance(block.module, EXPERTS):  # `fits_experts` has compared its shapes
            continue
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


def _feed_forward(block: Block) -> tuple[StridedWeight | None, StridedWeight | None, ExpertsWeights | None]:
    """Return the two products of a feed-forward, or its experts."""
    ffn = block.module
    if isinstance(ffn, EXPERTS):
        return None, None, ExpertsWeights(ffn, block.before, block.after, inner=block.inner, scale=block.scale)
    gated = isinstance(ffn, GatedFeedForward)
    up = [ffn.gate, ffn.up] if gated else [ffn.up]
    return _strided(up, act=kernel_activation(ffn.act), gated=gated, norm=block.before), _last(block), None


def _last(block: Block) -> StridedWeight:
    """Return the last product of a block, with the norm that it reads through and what comes before the sum."""
    linear = block.linears[block.last]
    return _strided([linear], norm=block.inside, after=block.after, inner=block.inner, scale=block.scale)


def _strided(linears: Sequence[Any], **options: Any) -> StridedWeight:
    return StridedWeight([part.weight for part in linears], [part.bias for part in linears], **options)
