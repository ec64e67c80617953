"""Hyper-connections: several residual streams, mixed by weights that a token's own streams decide.

Zhu et al., 2024, arXiv:2409.19606; manifold-constrained mixing: Xie et al., 2026, arXiv:2512.24880.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import LayerCache
from .embeddings import Embeddings
from .forward_context import ForwardContext
from .layer import Layer, Residual
from .weights import Float32Parameters

HALF = (torch.float16, torch.bfloat16)


class StreamWeights(Float32Parameters):
    """Logits of a token's stream weights: scale * (streams / rms(streams)) matrix + base, in float32.

    Args:
        groups: counts of weights that share a scale, such as one a stream.
    """

    widened = HALF

    def __init__(self, width: int, streams: int, groups: tuple[int, ...], norm_eps: float) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.empty(sum(groups), streams * width))
        self.base, self.scale = nn.Parameter(torch.empty(sum(groups))), nn.Parameter(torch.empty(len(groups)))
        self.groups, self.norm_eps = groups, norm_eps

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to weights that the streams hardly change."""
        if name == "matrix":
            parameter.normal_(0.0, std)
        else:
            parameter.fill_(float(name == "scale"))

    def forward(self, streams: Tensor) -> tuple[Tensor, ...]:
        """Map streams (tokens, streams, width) to logits, (tokens, weights) of each group."""
        flat = streams.flatten(1).float()  # (tokens, streams * width)
        inverse = torch.rsqrt(flat.square().mean(-1, keepdim=True) + self.norm_eps)  # (tokens, 1)
        logits = F.linear(flat, self.matrix.float()) * inverse  # (tokens, weights)
        parts = zip(logits.split(self.groups, -1), self.base.float().split(self.groups), self.scale, strict=True)
        return tuple(part * scale.float() + base for part, base, scale in parts)


def doubly_stochastic(x: Tensor, rounds: int, eps: float) -> Tensor:
    """Return positive matrices (..., n, n) with rows and columns that sum to 1 (Sinkhorn and Knopp, 1967)."""
    x = x / (x.sum(-2, keepdim=True) + eps)
    for _ in range(rounds - 1):
        x = x / (x.sum(-1, keepdim=True) + eps)
        x = x / (x.sum(-2, keepdim=True) + eps)
    return x


class HyperConnection(nn.Module):
    """The weights by which a sublayer reads the streams and writes into them.

    Args:
        rounds: that make the mixing of streams doubly stochastic; None where each stream stays by itself (Hy4).
        strength: largest weight of what a sublayer writes. eps: added to weights, and in divisions.
    """

    def __init__(
        self, width: int, streams: int, *, rounds: int | None, strength: float, eps: float, norm_eps: float
    ) -> None:
        super().__init__()
        groups = (streams, streams) if rounds is None else (streams, streams, streams**2)
        self.weights = StreamWeights(width, streams, groups, norm_eps)
        self.rounds, self.strength, self.eps = rounds, strength, eps

    def forward(self, streams: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what a sublayer reads of streams (tokens, streams, width), the weights of its result, and a mixing.

        Returns:
            (tokens, width); (tokens, streams); and (tokens, streams before, streams after), or None.
        """
        read, write, *mixing = self.weights(streams)
        # (tokens, width)
        merged = ((torch.sigmoid(read) + self.eps)[..., None] * streams).sum(1).to(streams.dtype)
        write = self.strength * torch.sigmoid(write)
        if self.rounds is None:
            return merged, write + self.eps, None
        square = mixing[0].unflatten(-1, (streams.shape[1], -1))
        return merged, write, doubly_stochastic(square.softmax(-1) + self.eps, self.rounds, self.eps)


class HyperResidual(Residual):
    """Residual block over streams: x -> mixing x + weights step(before(read x))."""

    def __init__(self, step: nn.Module, connection: HyperConnection, *, before: nn.Module) -> None:
        super().__init__(step, before=before)
        self.connection = connection

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map streams (tokens, streams, width) to (tokens, streams, width); `args` go to the step."""
        merged, weights, mixing = self.connection(x)
        new = self.step(self.before(merged), *args)  # (tokens, width)
        if mixing is None:
            return (weights[..., None] * new.float()[:, None] + x.float()).to(x.dtype)
        return weights.to(x.dtype)[..., None] * new[:, None] + torch.matmul(mixing.to(x.dtype).mT, x)


class ContextLayer(Layer):
    """Layer whose feed-forward reads the context of the pass, too."""

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        return self.ffn(self.attention(x, context, memory), context)


class StreamEmbeddings(Embeddings):
    """Token embeddings that all streams begin with."""

    def __init__(self, token: nn.Embedding, streams: int) -> None:
        super().__init__(token)
        self.streams = streams

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Return streams (tokens, streams, width)."""
        return super().forward(words, context)[:, None].expand(-1, self.streams, -1)


class StreamMerge(nn.Module):
    """Weighted sum of the streams, and its norm."""

    def __init__(self, width: int, streams: int, norm: nn.Module, *, eps: float, norm_eps: float) -> None:
        super().__init__()
        self.weights, self.norm, self.eps = StreamWeights(width, streams, (streams,), norm_eps), norm, eps

    def forward(self, x: Tensor) -> Tensor:
        """Map streams (tokens, streams, width) to hidden states (tokens, width)."""
        (logits,) = self.weights(x)  # (tokens, streams)
        return self.norm(((torch.sigmoid(logits) + self.eps)[..., None] * x).sum(1).to(x.dtype))


class StreamMean(nn.Module):
    """Norm of the mean of the streams (GLM-5.3)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Map streams (tokens, streams, width) to hidden states (tokens, width)."""
        return self.norm(x.mean(1))
