"""Normalizations that torch.nn lacks or computes with other casts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.ops import backend
from .weights import Float32Parameters, LayerNorm, Linear


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, 2019, arXiv:1910.07467).

    The mean is taken in float32; the result is cast to the weight's precision before that multiplies it, as Llama does.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis: (..., width) to (..., width)."""
        return backend(x).rms_norm(x, self.weight, self.eps)


class NarrowRMSNorm(RMSNorm):
    """RMSNorm in the precision of its weight (Mamba)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))  # Mamba's residual stream is float32


class WideRMSNorm(RMSNorm):
    """RMSNorm whose weight multiplies in float32, before the cast back (OLMo 2, Gemma).

    Args:
        centre: added to the weight; Gemma stores its distance from 1.
    """

    def __init__(self, width: int, eps: float, *, centre: float = 0.0) -> None:
        super().__init__(width, eps)
        self.centre = centre

    def forward(self, x: Tensor) -> Tensor:
        return backend(x).rms_norm(x, self.weight, self.eps, self.centre, wide=True)


class GroupedRMSNorm(nn.Module):
    """RMSNorm of each of several groups of channels, in float32; the weight is stored as its distance from 1.

    Args:
        width: of all groups together, each with its own weights.
    """

    def __init__(self, width: int, groups: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.groups, self.eps = groups, eps

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to a factor of 1."""
        parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        parts = x.float().unflatten(-1, (self.groups, -1))  # (tokens, groups, width / groups)
        normed = parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + self.eps)
        return (normed.flatten(-2) * (1.0 + self.weight.float())).to(x.dtype)  # (tokens, width)


class ExactRMSNorm(Float32Parameters, WideRMSNorm):
    """WideRMSNorm whose weight stays float32 in a half-precision model (DeepSeek-V4)."""

    widened = (torch.float16, torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class LowRankGatedNorm(nn.Module):
    """RMSNorm whose result is multiplied by sigmoids of low-rank functions of itself (A.X-K2).

    Args:
        rank: of the gates' matrices.
    """

    def __init__(self, width: int, rank: int, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps)
        self.down, self.up = Linear(width, rank, bias=False), Linear(rank, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)  # (tokens, width)
        return (y * torch.sigmoid(self.up(F.silu(self.down(y))).float())).to(y.dtype)


class HeadNorm(nn.Module):
    """Layer norm of each head with its own weight: (tokens, heads, width) to the same (StableLM, Cohere)."""

    def __init__(self, heads: int, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = F.layer_norm(x.float(), x.shape[-1:], eps=self.eps)  # (tokens, heads, width), without weight
        return (self.weight.float() * wide).to(x.dtype)  # (heads, width) times (tokens, heads, width)


class AllHeadsNorm(nn.Module):
    """Norm over all heads at once: (tokens, heads, width) to the same (OLMo 2)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(-2)).view_as(x)  # over (tokens, heads * width)


class PlainLayerNorm(nn.Module):
    """Layer norm in float32 without weight or bias (OLMo)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), (self.width,), eps=self.eps).to(x.dtype)  # (..., width)


class PlainRMSNorm(nn.Module):
    """RMSNorm in float32 without weight (nanochat)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)  # (..., width)


class LengthBound(nn.Module):
    """Scale of vectors that are longer than `bound` down to it, in float32 (Inkling 2)."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()  # (..., width)
        lengths = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        return (wide * (self.bound / (lengths + 1e-6)).clamp(max=1.0)).to(x.dtype)


class ScaledLengthBound(LengthBound):
    """Bound of the lengths of vectors (tokens, heads, width) that a learned weight (heads, width) has scaled."""

    def __init__(self, heads: int, width: int, bound: float) -> None:
        super().__init__(bound)
        self.weight = nn.Parameter(torch.empty(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float() * self.weight.float()).to(x.dtype)


class CentredLayerNorm(LayerNorm):
    """Layer norm that stores its weight's distance from 1 (Nemotron)."""

    centre = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight + self.centre, self.bias, self.eps)


class ClampInfinities(nn.Module):
    """Clamp of float16 infinities to large finite numbers (T5); other precisions pass unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype is not torch.float16:
            return x
        limit = torch.finfo(x.dtype).max - 1000  # NaN stays, so that errors are seen
        return torch.nan_to_num(x, nan=torch.nan, posinf=limit, neginf=-limit)


class Affine(nn.Module):
    """Affine map in place of a norm: x * weight + bias (MobileBERT's NoNorm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias  # (..., width)
