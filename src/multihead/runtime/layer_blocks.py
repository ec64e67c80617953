"""Steps of a layer with what is around them, in one form for layers in sequence and in parallel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..nn.attention.attention import Attention
from ..nn.attention.gated import GatedAttention
from ..nn.gated_delta_net import GatedDeltaNet
from ..nn.layer import ParallelLayer, Residual
from ..nn.weights import NormedLinear
from .fused_layers import LINEARS
from .layer_spec import LayerSpec, NormSpec, norm_spec

# Linear layers of each class of steps, the last one last. Decode steps compute more classes than fused layers do.
STEPS: Mapping[type, tuple[str, ...]] = {
    **LINEARS, GatedAttention: LINEARS[Attention], GatedDeltaNet: ("qkv", "gate", "rates", "output"),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Step of a layer: x + scale * out(step(before(x))), then a norm of the sum.

    Args:
        name: "attention", "cross" or "ffn". step: None where it has no spec.
        before: norm of what the step reads.
        after: norm of the sum, or where `inner` of the step's result before it.
        fits: the kernels compute all that is around the step.
    """

    name: str
    step: LayerSpec | None
    before: NormSpec | None
    after: NormSpec | None = None
    inner: bool = False
    scale: float = 1.0
    fits: bool = True

    @property
    def module(self) -> Any:
        assert self.step is not None
        return self.step.layer

    @cached_property
    def linears(self) -> Mapping[str, Any]:
        """Linear layers of the step by name, without the norm that the last one may read through."""
        found = {name: self.module.get_submodule(name) for name in STEPS[type(self.module)]}
        return {name: x.linear if type(x) is NormedLinear else x for name, x in found.items()}

    @property
    def last(self) -> str:
        """Name of the last linear layer."""
        return STEPS[type(self.module)][-1]

    @cached_property
    def inside(self) -> NormSpec | None:
        """Norm of what the last linear layer reads (BitNet)."""
        last: Any = self.module.get_submodule(self.last)
        return norm_spec(last.norm) if type(last) is NormedLinear else None


def blocks(layer: LayerSpec) -> Iterator[Block]:
    """Yield the steps of a layer."""
    if type(layer.layer) is ParallelLayer:
        norm = layer.parts["norm"]
        norms = {"attention": norm, "ffn": norm if layer.layer.ffn_norm is None else layer.parts["ffn_norm"]}
        for name, each in norms.items():
            before = None if each is None else each.norm
            yield Block(name, layer.parts[name], before, fits=before is not None and layer.parts[name] is not None)
        return
    for name, residual in layer.parts.items():
        yield Block(name, None, None, fits=False) if residual is None else _of_residual(name, residual)


def _of_residual(name: str, residual: LayerSpec) -> Block:
    step = residual.parts.get("step")
    if type(residual.layer) is not Residual or step is None:
        return Block(name, step, None, fits=False)
    before, out, after = (_norm(residual, norm) for norm in ("before", "out", "after"))
    known = before is not None and out is not None and after is not None and residual.options <= {"out", "scale"}
    inner, scale = out is not None and out.kind != 0, residual.layer.scale
    # one norm for each product, and none of a sum whose part is scaled
    alone = not (after is not None and after.kind and (inner or scale != 1.0)) and scale != 0.0
    return Block(name, step, before, out if inner else after, inner, scale, known and alone)


def _norm(residual: LayerSpec, name: str) -> NormSpec | None:
    part = residual.parts[name]
    return None if part is None else part.norm
