"""Operations of layers, dispatched to the backend of their tensors' device. A backend is a folder and an entry here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..extensions import Registry
from .backend import BACKENDS, Backend, Bias, backend, backend_of
from .cpu.backend import CpuBackend
from .ragged import AttentionMask
from .torch.backend import TorchBackend
from .torch.linear import FEW_ROWS
from .triton.backend import TritonBackend

OWN = {one.name: one for one in (CpuBackend(), TritonBackend(), TorchBackend())}
ADDED = Registry("backends", OWN, lambda found: isinstance(found, Backend)).added_values()
BACKENDS.update({**ADDED, **OWN})  # those of other packages serve what they say they serve

__all__ = ["BACKENDS", "backend", "backend_of", "dropout", "fused_attention", "linear"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias: (rows, inputs) to (rows, outputs); the weight is (outputs, inputs)."""
    if x.ndim != 2 or x.shape[0] > FEW_ROWS or torch.is_grad_enabled():
        return F.linear(x, weight, bias)  # no backend is faster here
    return backend(x).linear(x, weight, bias)


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with each element zeroed with probability p, the others divided by 1 - p (Srivastava et al., 2014)."""
    # detached for the choice alone: the kernel of a CPU gives the gradient itself
    return backend(x.detach()).dropout(x, p)


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attention_mask: AttentionMask,
    *,
    scale: float,
    bias: Bias | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return attention as `AttentionFunction` describes it, in the fastest way for its device and lengths."""
    return backend(q).attention(
        q, k, v, attention_mask, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks
    )
