"""Norms of queries and keys, as the kernels compute them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.norms import AllHeadsNorm, HeadNorm
from .layer_spec import LayerSpec, NormSpec, norm_spec

SHARED, EACH, ACROSS = range(3)  # native.h: LayerCall.norm_span


@dataclass(frozen=True)
class HeadsNorm:
    """Norm of a layer's queries or keys (tokens, heads, width).

    Args:
        span: SHARED for one weight (width,) for all heads, EACH for a weight (heads * width,) with one part a head,
            ACROSS for a norm over all heads with a weight (heads * width,).
    """

    spec: NormSpec
    span: int = SHARED

    @property
    def alike(self) -> tuple[int, float, int]:
        """Arguments of the kernels that queries and keys share."""
        return self.spec.kind, self.spec.eps, self.span

    def fits(self, width: int, channels: int) -> bool:
        """Return True if the weights go with heads of this width, and so many channels of all heads."""
        wanted = width if self.span == SHARED else channels
        return all(x is None or x.numel() == wanted for x in (self.spec.scale, self.spec.shift))


def heads_norm(layer: nn.Module) -> HeadsNorm | None:
    """Return the norm of queries or keys that a layer computes; None for one that the kernels do not."""
    module: Any = layer
    if type(layer) is HeadNorm:
        return HeadsNorm(NormSpec(2, module.eps, module.weight), EACH)
    across = type(layer) is AllHeadsNorm
    spec = norm_spec(module.norm if across else layer)
    return None if spec is None else HeadsNorm(spec, ACROSS if across else SHARED)


def fits_heads_norms(attention: LayerSpec, rows: tuple[int, int]) -> bool:
    """Return True if the kernels compute the norms of an attention's queries and keys.

    Args:
        rows: channels of all heads' queries, and of all heads' keys.
    """
    parts = attention.parts["q_norm"], attention.parts["k_norm"]
    norms = [None if part is None else heads_norm(part.layer) for part in parts]
    if any(norm is None for norm in norms):
        return False
    pairs = zip(norms, rows, strict=True)
    used = [(norm, channels) for norm, channels in pairs if norm is not None and norm.spec.kind]
    width = attention.layer.head_width
    return len({norm.alike for norm, _ in used}) <= 1 and all(norm.fits(width, channels) for norm, channels in used)


def set_heads_norms(entry: Any, step: Any, rows: tuple[int, int]) -> list[Any]:
    """Fill the fields of a `native.LayerCall` for norms of queries and keys.

    Returns:
        What must live as long as the entry. Its tensors are copies of the parameters that `norm_parameters` gives.
    """
    memory: list[Any] = []
    for name, channels in zip(("q_norm", "k_norm"), rows, strict=True):
        norm = heads_norm(getattr(step, name))
        if norm is None or not norm.spec.kind:
            continue
        entry.norm_kind, entry.norm_eps, entry.norm_span = norm.alike[0], norm.spec.eps, norm.span
        weight, bias = norm.spec.weight, norm.spec.bias  # float32
        if weight is None:  # the kernels know by its weight that there is a norm
            weight = torch.ones(step.head_width if norm.span == SHARED else channels)
        learned = any(True for _ in getattr(step, name).parameters())
        memory.extend(x if learned else [x] for x in (weight, bias) if x is not None)
        setattr(entry, name, weight.data_ptr())
        setattr(entry, f"{name}_bias", None if bias is None else bias.data_ptr())
    entry.norm_last = int(step.norm_last)
    return memory


def norm_parameters(step: Any) -> Iterator[tuple[nn.Module, str]]:
    """Yield (norm, name) of each parameter of the norms of an attention's queries and keys."""
    for norm in (step.q_norm, step.k_norm):
        inner = norm.norm if isinstance(norm, AllHeadsNorm) else norm
        yield from ((inner, name) for name in ("weight", "bias") if getattr(inner, name, None) is not None)


def as_kernels_read(norm: nn.Module, name: str) -> Tensor:
    """Return a parameter of a norm as the kernels multiply by it, without axes of heads."""
    x: Tensor = getattr(norm, name).detach().flatten()
    centre = getattr(norm, "centre", 0.0)
    return x.float() + centre if centre and name == "weight" else x
