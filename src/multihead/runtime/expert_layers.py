"""Routed experts as the kernels of decode steps read them: as they were loaded, or packed."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.cpu import native
from ..kernels.quantization.panels import PANEL
from ..nn.experts import ExpertList, GroupedTopK, RoutedExperts, SharedExpert, StackedExperts, TopK
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.weights import Linear
from .fused_experts import FusedRoutedExperts, FusedWithShared, PackedExperts
from .fused_layers import FusedFeedForward, fusable, kernel_activation
from .layer_spec import LayerSpec, NormSpec
from .strided_weight import StridedWeight, same_layout

ROUTED, BESIDE = (RoutedExperts, FusedRoutedExperts), (SharedExpert, FusedWithShared)
EXPERTS = (*ROUTED, *BESIDE)  # classes that the kernels know
SOFTMAX_OF_ALL, SIGMOID_OF_EACH, SOFTMAX_OF_CHOSEN = range(3)  # experts.h: Score
IN_TURNS, GATES_FIRST = 1, 2  # native.h: clamp


def fits_experts(spec: LayerSpec | None, dtype: torch.dtype | None) -> bool:
    """Return True if the kernels compute all that a step of routed experts does.

    Args:
        dtype: of hidden states, which weights as they were loaded must have; None for packed experts.
    """
    if spec is None or not spec.complete or spec.options:
        return False
    if type(spec.layer) not in BESIDE:
        return type(spec.layer) in ROUTED and _fits_routed(spec, dtype)
    routed, shared, share = spec.parts["routed"], spec.parts["shared"], spec.layer.share
    if not fits_experts(routed, dtype) or shared is None or type(spec.layer.routed) not in ROUTED:
        return False
    states = spec.layer.routed.router.weight.shape[1]
    if share is not None and (type(share) is not Linear or not _reads_states(share, dtype, states, 1)):
        return False
    if isinstance(shared.layer, FusedFeedForward):
        return shared.layer.into.shape[1] == states == shared.layer.output.outputs
    return dtype is not None and fusable(shared) and not shared.options and _fit_together([shared.layer], dtype, states)


def _fits_routed(spec: LayerSpec, dtype: torch.dtype | None) -> bool:
    layer, experts = spec.layer, spec.part("experts")
    weight, wide = layer.router.weight, layer.wide or dtype in layer.router.widened
    if type(layer.router) is not Linear or not rule_fields(layer.rule, layer.count):
        return False
    if not _reads_states(
        layer.router, torch.float32 if wide and weight.dtype is torch.float32 else dtype, None, layer.count
    ):
        return False
    states, each = weight.shape[1], experts.layer
    if type(each) is PackedExperts:
        alike = each.into.count == each.output.count == layer.count and None not in (
            each.into.format.kernel, each.output.format.kernel,
        )  # fmt: skip
        return bool(alike and each.into.shape[1] == states == each.output.outputs)
    if dtype is None:
        return False
    if type(each) is StackedExperts:
        inner = each.down.shape[1]
        shapes = (each.gate_up, (states, 2 * inner)), (each.down, (inner, states))
        return all(_lies_stacked(x, dtype, (layer.count, *shape)) for x, shape in shapes)
    fits = type(each) is ExpertList and len(each) == layer.count and all(map(fusable, experts.parts.values()))
    return (
        fits and not any(part.options for part in experts.parts.values() if part) and _fit_together(each, dtype, states)
    )


def _lies_stacked(x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> bool:
    """Return True for matrices of this dtype and shape that lie one after the other."""
    return type(x) in (torch.nn.Parameter, Tensor) and x.dtype is dtype and x.is_contiguous() and x.shape == shape


def _reads_states(linear: Any, dtype: torch.dtype | None, states: int | None, outputs: int) -> bool:
    """Return True if the kernels can multiply states with a linear layer of some outputs."""
    weight, bias = linear.weight, linear.bias
    fits = weight.ndim == 2 and len(weight) == outputs and (bias is None or bias.shape == (outputs,))
    return fits and states in (None, weight.shape[1]) and same_layout([linear], dtype or weight.dtype)


def _fit_together(experts: Sequence[Any] | ExpertList, dtype: torch.dtype, states: int) -> bool:
    """Return True if the weights of feed-forwards are of this dtype, and alike in shape and in memory."""
    first: Any = experts[0]
    gated, inner = isinstance(first, GatedFeedForward), len(first.up.weight)
    if type(first) not in (FeedForward, GatedFeedForward):
        return False
    shapes = {"gate": (inner, states), "up": (inner, states), "down": (states, inner)}
    names = ("gate", "up", "down") if gated else ("up", "down")
    for name in names:
        linears = [getattr(expert, name) for expert in experts]
        if any(x.weight.shape != shapes[name] for x in linears) or not same_layout(linears, dtype):
            return False
        biases = [x.bias for x in linears]
        if len({bias is None for bias in biases}) > 1 or any(
            b is not None and b.shape != shapes[name][:1] for b in biases
        ):
            return False
    if gated and not same_layout([first.gate, first.up], dtype):
        return False
    return all(type(a) is type(b) and a.act is b.act for a, b in pairwise(experts))


def rule_fields(rule: Any, count: int) -> Mapping[str, Any]:
    """Return the fields of a `native.ExpertsStep` for a choice among experts; none for one that kernels do not make."""
    if type(rule) is TopK:
        score = SOFTMAX_OF_CHOSEN if rule.late else SOFTMAX_OF_ALL
        best, own = rule.best, {"power": rule.power, "added": rule.added, "lowest": 0.0, "factor": rule.scale}
    elif type(rule) is GroupedTopK:
        if rule.correction is not None and rule.correction.shape != (count,):
            return {}
        score, best = SOFTMAX_OF_ALL if rule.shared else SIGMOID_OF_EACH, 2
        own = {"power": 1.0, "floor": rule.floor, "lowest": -torch.inf, "factor": rule.scale, "raw": int(rule.raw)}
    else:
        return {}
    groups = 1 if score == SOFTMAX_OF_CHOSEN else rule.groups
    if not 0 < rule.chosen <= count or groups < 1 or count % groups:
        return {}
    if groups > 1 and not (0 < best <= count // groups and 0 < rule.kept <= groups):
        return {}
    return {**own, "score": score, "chosen": rule.chosen, "groups": groups, "kept": rule.kept, "best": best,
            "normalized": int(rule.normalized)}  # fmt: skip


class ExpertsWeights:
    """Routed experts as the kernels read them, for which `fits_experts` holds.

    Args:
        before, after: norms of what is read, and of the sum; where `inner`, of the result before it.
        scale: of the result before the sum. joined: packed experts that add the residual themselves.
    """

    def __init__(
        self,
        step: Any,
        before: NormSpec | None,
        after: NormSpec | None,
        *,
        inner: bool = False,
        scale: float = 1.0,
        joined: bool = False,
    ) -> None:
        before, after = before or NormSpec(), after or NormSpec()
        routed, beside = (step.routed, step) if isinstance(step, SharedExpert) else (step, None)
        self.memory: list[Any] = []  # what the structure points at
        packed, factor = isinstance(routed, FusedRoutedExperts), 1.0 if beside is None else beside.scale
        correction = getattr(routed.rule, "correction", None)
        wide = routed.wide or routed.router.weight.dtype is torch.float32 or routed.softcap is not None
        norms = before.weight, before.bias, after.weight, after.bias
        names = "norm_weight", "norm_bias", "after_weight", "after_bias"
        addresses = {name: self._tensor(x) for name, x in zip(names, norms, strict=True)}
        self._struct = native.ExpertsStep(
            count=routed.count, router=self._product([routed.router]), norm=before.kind, norm_eps=before.eps,
            after=after.kind, after_eps=after.eps, inner=int(inner), scale=0.0 if scale == 1.0 else scale,
            softcap=routed.softcap or 0.0, shared_factor=factor, packed=int(packed),
            joined=int(joined and factor == 1.0), wide=int(wide),
            correction=self._tensor(None if correction is None else correction.detach().float().contiguous()),
            **rule_fields(routed.rule, routed.count), **addresses, **self._experts(routed.experts),
            **self._shared(beside),
        )  # fmt: skip
        self.address = ctypes.addressof(self._struct)
        self.memory.append(self._struct)

    def _tensor(self, x: Tensor | None) -> int | None:
        """Return the address of a tensor that is kept from now on."""
        self.memory.append(x)
        return None if x is None else x.data_ptr()

    def _product(self, linears: Sequence[Any], **options: Any) -> int:
        weight = StridedWeight([x.weight for x in linears], [x.bias for x in linears], **options)
        self.memory.append(weight.memory)
        return weight.address

    def _shared(self, step: Any) -> dict[str, Any]:
        """Return the fields of the expert that every token passes."""
        if step is None:
            return {}
        share = None if step.share is None else self._product([step.share])
        shared: Any = step.shared
        if isinstance(shared, FusedFeedForward):
            into, down = shared.into.address, shared.output.address
            self.memory.extend([shared.into.memory, shared.output.memory])
        else:
            into, down = self._product(*_opening(shared)[:1], **_opening(shared)[1]), self._product([shared.down])
        return {"share": share, "shared_into": into, "shared_down": down}

    def _experts(self, experts: Any) -> dict[str, Any]:
        """Return the fields of the experts' products."""
        if isinstance(experts, PackedExperts):
            into, down = experts.into.address, experts.output.address
            self.memory.extend([experts.into.memory, experts.output.memory])
            act, clamp = experts.between, 0 if experts.between is None else GATES_FIRST
        elif isinstance(experts, StackedExperts):
            into = self._stacked(experts.gate_up, experts.gate_up_bias)
            down, act, clamp = self._stacked(experts.down, experts.down_bias), experts.act, IN_TURNS
        else:
            groups = [_opening(expert)[0] for expert in experts]
            into = self._table(groups, **_opening(experts[0])[1])
            down, act, clamp = self._table([[expert.down] for expert in experts]), None, 0
        numbers = {} if act is None else {"alpha": act.alpha, "limit": act.limit}
        return {"into": into, "down": down, "clamp": clamp, **numbers}

    def _table(self, groups: Sequence[Sequence[Any]], **options: Any) -> int:
        """Return the address of the structures of one product of each expert, whose linear layers are alike."""
        first = StridedWeight([x.weight for x in groups[0]], [x.bias for x in groups[0]], **options)
        table = _repeated(first, len(groups))
        for part in range(len(groups[0])):
            table["parts"][:, part] = [linears[part].weight.data_ptr() for linears in groups]
        self.memory.append([x.weight for linears in groups for x in linears])
        if groups[0][0].bias is not None:
            own = [
                StridedWeight([x.weight for x in linears], [x.bias for x in linears], **options) for linears in groups
            ]
            table["bias"] = [one.bias_address for one in own]
            self.memory.append([one.memory for one in own])
        return self._keep(table, first)

    def _stacked(self, weight: Tensor, bias: Tensor) -> int:
        """Do the same for weights (experts, inputs, outputs) and biases (experts, outputs)."""
        first = StridedWeight([weight[0].detach().t()], [None])
        table = _repeated(first, len(weight))
        biases = F.pad(bias.detach().float(), (0, -bias.shape[1] % PANEL)).contiguous()  # kernels read whole panels
        for name, x in (("parts", weight), ("bias", biases)):
            column = table[name][:, 0] if name == "parts" else table[name]
            column[:] = x.data_ptr() + np.arange(len(x), dtype=np.uint64) * np.uint64(x.stride(0) * x.element_size())
        self.memory.extend([weight, biases])
        return self._keep(table, first)

    def _keep(self, table: Any, first: StridedWeight) -> int:
        self.memory.extend([table, first.memory])
        return int(table.ctypes.data)


def _opening(expert: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the linear layers of a feed-forward's first product, and its options."""
    gated = isinstance(expert, GatedFeedForward)
    return [expert.gate, expert.up] if gated else [expert.up], {"act": kernel_activation(expert.act), "gated": gated}


def _repeated(weight: StridedWeight, count: int) -> Any:
    """Return numpy's array of `native.Weight` with so many copies of one."""
    one = np.frombuffer(ctypes.string_at(weight.address, ctypes.sizeof(native.Weight)), np.dtype(native.Weight))
    return np.repeat(one, count)
