"""Put fused layers in the places of trained ones: joined products, packed weights, and stacks that run in one call."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..heads.heads import LanguageModel
from ..kernels.quantization.base import file_format, format_of
from ..kernels.quantization.coded_tensor import matrices, move_rows, transposed
from ..kernels.quantization.registry import FILE_FORMAT
from ..load_progress import PREPARING, LoadSteps
from ..nn.attention.attention import CrossAttention
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert, StackedExperts
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.layer import CrossLayer, Layer, Residual
from ..nn.norms import ClampInfinities
from ..nn.stack import Stack
from ..nn.switch import SwitchFeedForward
from ..nn.weights import Linear, UnitRows
from .cpu_stack import fused_stack
from .fused_experts import ExpertLinears, FusedRoutedExperts, FusedSwitch, FusedWithShared, PackedExperts
from .fused_layers import (
    FusedAttention,
    FusedCrossAttention,
    FusedFeedForward,
    FusedResidual,
    FusedResidualGPU,
    FusedStackGPU,
    fits_norms,
    fusable,
    kernel_activation,
    steps_of,
)  # fmt: skip
from .fused_linear_cpu import FusedLinear, PackedLinear
from .fused_linear_gpu import FusedLinearGPU
from .layer_spec import LayerSpec, NormSpec, describe

GPU = "gpu"  # in place of a format: weights keep their dtype, and torch multiplies them


class Places(WeakKeyDictionary[nn.Module, nn.Module]):
    """A layer -> the module in its place; a layer may have several places. `steps`: counts layers that are fused."""

    steps: LoadSteps


def fuse(module: nn.Module, format: str) -> nn.Module:
    """Join and pack every step inside that can be, and pack other linear layers alone.

    Args:
        format: of packed weights, as `kernels.quantization.base.pack` takes it, or `GPU`.

    Returns:
        The module to use from now on, which is another one for a stack that runs fused as a whole.

    Raises:
        InvalidInput: weights that are not finite, or too large.
    """
    places = Places()
    places.steps = LoadSteps(PREPARING, sum(isinstance(part, Residual) for part in module.modules()))
    _fuse_parts(module, format, places)
    return (_fused_stack(module, format) if type(module) is Stack else None) or module


def _fuse_parts(parent: nn.Module, format: str, places: Places) -> None:
    for name in list(parent._modules):
        child = parent._modules[name]
        if child is None or isinstance(child, (FusedLinear, FusedLinearGPU)):
            continue
        if child not in places:  # a layer that is shared is fused once
            packable = format != GPU and name not in getattr(parent, "unpacked", ())
            places[child] = _fuse_one(child, format, places, packable)
        if places[child] is not child:
            setattr(parent, name, places[child])


def _fuse_one(layer: nn.Module, format: str, places: Places, packable: bool) -> nn.Module:
    """Return the layer with fused parts, which replaces it; the same object if nothing can be fused."""
    if type(layer) is Linear:
        return PackedLinear(layer, format) if packable and describe(layer) is not None else layer
    if type(layer) is Stack:
        _fuse_parts(layer, format, places)
        return _fused_stack(layer, format) or layer
    fused = (_fused_residual(layer, format) if type(layer) is Residual else _fused_step(layer, format)) or layer
    _fuse_parts(fused, format, places)
    if isinstance(layer, Residual):
        places.steps.finish()
    return fused


def _fused_stack(stack: Any, format: str) -> nn.Module | None:
    """Return a stack that runs fused as a whole; None where its layers run one by one."""
    if format != GPU:
        return fused_stack(stack) if format == FILE_FORMAT or format_of(format).kernel is not None else None
    spec = describe(stack)
    layers = None if spec is None else spec.parts["layers"]
    if layers is None or not layers.parts or len({type(layer) for layer in stack.layers}) > 1:
        return None
    for layer in layers.parts.values():
        if layer is None or type(layer.layer) not in (Layer, CrossLayer):
            return None
        # one residual that is not fused breaks the chain of sums and norms
        if any(layer.kind(name) is not FusedResidualGPU for name in steps_of(layer.layer)):
            return None
    return FusedStackGPU(stack)


def _fused_residual(residual: Residual, format: str) -> nn.Module | None:
    """Return a residual whose step can add its own input; None if it cannot be fused."""
    spec = describe(residual)
    # a norm of the step's result is an option that the CPU's products compute
    if spec is None or spec.options - ({"out"} if format != GPU else set()):
        return None
    step = spec.parts["step"]
    if format != GPU and routes(step) and not spec.options:  # a router reads what the norm gives, too
        return FusedResidual(residual, _experts(residual.step, format))
    if not fusable(step):
        return None
    if format == GPU:
        fused = FusedResidualGPU(residual, _join(residual.step, format))
        # the clamp changes float16 alone (T5); without it the next norm is joined with the sum
        if type(fused.after) is ClampInfinities and fused.step.output.weight.dtype is not torch.float16:  # type: ignore[union-attr]
            fused.after = nn.Identity()
        return fused
    if spec.options and not fits_norms(spec):
        return None
    norms = [None if part is None else part.norm for part in (spec.parts[name] for name in ("before", "after", "out"))]
    # a norm of kind 0 changes nothing
    before, after, out = (None if norm is None or not norm.kind else norm for norm in norms)
    fused_step = _join(residual.step, format, before, after or out, inner=out is not None)
    return FusedResidual(residual, fused_step, before is not None, after is not None, out is not None)


def _fused_step(step: nn.Module, format: str) -> nn.Module | None:
    """Return a fused step outside of a fused residual; None if it cannot be fused."""
    spec = describe(step)
    if fusable(spec):
        return _join(step, format)
    return _experts(step, format) if format != GPU and routes(spec) else None


def routes(spec: LayerSpec | None) -> bool:
    """Return True if a step sends tokens to experts that are packed here."""
    if spec is None:
        return False
    step, experts = spec.layer, spec.parts.get("experts")
    if type(step) is SharedExpert:
        return routes(spec.parts["routed"]) and fusable(spec.parts["shared"])
    if type(step) not in (RoutedExperts, SwitchFeedForward) or experts is None:
        return False
    if type(step) is SwitchFeedForward or type(experts.layer) is ExpertList:
        return all(map(fusable, experts.parts.values())) and len({type(expert) for expert in step.experts}) == 1
    return type(experts.layer) is StackedExperts


def _experts(step: Any, format: str) -> nn.Module:
    """Return the step with packed experts. Each expert's weights are freed before the next is packed."""
    if isinstance(step, SharedExpert):
        return FusedWithShared(step, _experts(step.routed, format), _join(step.shared, format))
    if isinstance(step, SwitchFeedForward):
        return FusedSwitch(step, pack_experts(step.experts, format))
    pack = _pack_stacked if isinstance(step.experts, StackedExperts) else pack_experts
    if step.wide:
        step.router.widened = (torch.float16, torch.bfloat16)  # it computes in float32: not cast in every pass
    return FusedRoutedExperts(step, pack(step.experts, format))


def pack_experts(experts: Any, format: str) -> PackedExperts:
    """Pack a list of feed-forwards of one class, whose linear layers are removed."""
    gated, act = isinstance(experts[0], GatedFeedForward), kernel_activation(experts[0].act)

    def product(expert: nn.Module, format: str, *names: str, **options: Any) -> FusedLinear:
        linears = [getattr(expert, name) for name in names]
        for name in names:
            delattr(expert, name)
        return _product(linears, format, **options)  # type: ignore[return-value]

    def products(*names: str, **options: Any) -> ExpertLinears:
        weights = [getattr(expert, name).weight for expert in experts for name in names]
        one = file_format(weights) if format == FILE_FORMAT else format  # a stack has one kind
        return ExpertLinears([partial(product, expert, one, *names, **options) for expert in experts])

    # gate and up read the same states, so they are one product
    into = products(*(("gate", "up") if gated else ("up",)), act=act, gated=gated)
    return PackedExperts(into, products("down"))


def pack_head(head: LanguageModel, format: str) -> None:
    """Pack a head's table and bias as one product, which computes the scores from now on."""
    if head.rest is not None:  # two tables are not one product (MobileBERT)
        return
    if isinstance(head.table, Linear):  # which nothing else reads
        head.table = head.packed = PackedLinear(head.table, format, head.bias)
    else:
        table: Any = head.table  # it stays, since it is the token embeddings, too
        weight = table.rows().detach() if isinstance(table, UnitRows) else table.weight  # (vocabulary, width)
        head.packed = FusedLinear([weight], [head.bias], format)


def _pack_stacked(experts: StackedExperts, format: str) -> PackedExperts:
    # GPT-OSS stores gates and ups in turns
    into = _pack_stack(experts.gate_up, experts.gate_up_bias, 2, format)
    del experts.gate_up  # freed before the second matrices are packed
    return PackedExperts(into, _pack_stack(experts.down, experts.down_bias, 1, format), experts.act)


def _pack_stack(stack: Tensor, bias: Tensor, parts: int, format: str) -> ExpertLinears:
    """Pack a stack (experts, inputs, outputs) whose outputs are those of so many parts in turns."""
    weights = matrices(stack)
    format = file_format([transposed(weights[0])]) if format == FILE_FORMAT else format

    def product(number: int) -> FusedLinear:
        weight = transposed(weights[number])  # (outputs, inputs)
        rows = [move_rows(weight, itemgetter(slice(first, None, parts))) for first in range(parts)]
        return FusedLinear(rows, [bias[number][first::parts] for first in range(parts)], format)

    return ExpertLinears([partial(product, number) for number in range(len(weights))])


def _product(
    linears: list[Any], format: str, act: str | None = None, gated: bool = False, **norms: Any
) -> FusedLinear | FusedLinearGPU:
    """Linear layers that read the same states as one."""
    weights, biases = [x.weight for x in linears], [x.bias for x in linears]
    if format == GPU:
        return FusedLinearGPU(weights, biases, act=act, gated=gated)
    options: dict[str, Any] = {"act": act, "gated": gated, **norms}
    return FusedLinear(weights, biases, format, **options)


def _join(
    step: Any, format: str, before: NormSpec | None = None, after: NormSpec | None = None, inner: bool = False
) -> nn.Module:
    """Attention or a feed-forward in few products, with the norms before and after it where these are given."""
    last: dict[str, Any] = {"after": after, "inner": inner}
    if isinstance(step, (FeedForward, GatedFeedForward)):
        gated = isinstance(step, GatedFeedForward)
        linears = [step.gate, step.up] if gated else [step.up]
        into = _product(linears, format, act=kernel_activation(step.act), gated=gated, norm=before)
        return FusedFeedForward(into, _product([step.down], format, **last))
    output = _product([step.out], format, **last)
    if isinstance(step, CrossAttention):
        # keys and values read another source, so the norm is of queries alone
        query, kv = _product([step.q], format, norm=before), _product([step.k, step.v], format)
        return FusedCrossAttention(step, query, kv, output)
    return FusedAttention(step, _product([step.q, step.k, step.v], format, norm=before), output)
