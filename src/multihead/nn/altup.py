"""AltUp: several streams of hidden states, of which a layer computes one and predicts the others (arXiv:2301.13310)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .cache.layer_cache import LayerCache, memory_of
from .forward_context import ForwardContext
from .layer import Residual
from .per_layer import PerLayerEmbeddings, PerLayerInput
from .weights import Linear


class AltUp(nn.Module):
    """Prediction of all streams before a layer, and their correction by what the layer gives for one of them.

    Args:
        count: of streams. active: the one that the layer computes. norm: of what the router reads.
        clip: bound of the coefficients' weights, in training.
    """

    def __init__(self, width: int, count: int, active: int, norm: nn.Module, clip: float | None) -> None:
        super().__init__()
        self.active, self.norm, self.clip, self.scale = active, norm, clip, width**-1.0
        self.router = Linear(width, count, bias=False)
        self.prediction = Linear(count, count * count, bias=False)
        self.correction = Linear(count, count, bias=False)

    def predict(self, streams: Tensor) -> Tensor:
        """Return the predicted streams, (tokens, streams, width), of those of the layer before."""
        self._clip(self.prediction)
        routed = self._routed(streams[:, self.active])  # (tokens, streams)
        mixing = self.prediction(routed).unflatten(-1, (streams.shape[1], -1))  # (tokens, streams, streams)
        return torch.matmul(mixing, streams) + streams

    def correct(self, predicted: Tensor, computed: Tensor) -> Tensor:
        """Return corrected streams (tokens, streams, width); computed: (tokens, width), the layer's result."""
        self._clip(self.correction)
        news = computed - predicted[:, self.active]  # (tokens, width)
        shares = self.correction(self._routed(computed)) + 1.0  # (tokens, streams)
        return predicted + news[:, None] * shares[..., None]

    def _routed(self, x: Tensor) -> Tensor:
        """Return coefficients between -1 and 1, (tokens, streams), of states (tokens, width)."""
        return torch.tanh(self.router(self.norm(x) * self.scale).float()).to(x.dtype)

    def _clip(self, linear: Linear) -> None:
        if self.training and self.clip is not None:
            with torch.no_grad():
                linear.weight.clamp_(-self.clip, self.clip)


class Laurel(nn.Module):
    """Learned augmented residual of low rank: x + norm(right(left(x))) (Menghani et al., 2024, arXiv:2411.07501)."""

    def __init__(self, width: int, rank: int, norm: nn.Module) -> None:
        super().__init__()
        self.left, self.right = Linear(width, rank, bias=False), Linear(rank, width, bias=False)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.right(self.left(x)))  # (tokens, width)


class LaurelResidual(Residual):
    """Residual block whose sum has a third part, computed from the normed input beside the step."""

    def __init__(self, step: nn.Module, laurel: Laurel, *, before: nn.Module, out: nn.Module) -> None:
        super().__init__(step, before=before, out=out)
        self.laurel = laurel

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width); `args` go to the step."""
        normed = self.before(x)  # (tokens, width)
        return (x + self.out(self.step(normed, *args)) + self.laurel(normed)) / math.sqrt(2)


class AltUpLayer(nn.Module):
    """Layer that computes one of several streams; its per-layer vectors are added to all streams but the first.

    Args:
        extra, extra_norm: of the per-layer vectors. scaled: the corrected stream that they are gated by is scaled.
    """

    def __init__(
        self,
        altup: AltUp,
        attention: LaurelResidual,
        ffn: Residual,
        extra: PerLayerInput,
        extra_norm: nn.Module,
        *,
        width: int,
        scaled: bool,
    ) -> None:
        super().__init__()
        self.altup, self.attention, self.ffn, self.extra, self.extra_norm = altup, attention, ffn, extra, extra_norm
        self.scale, self.scaled = nn.Parameter(torch.empty(width)), scaled  # (width,)

    def memory(self) -> LayerCache:
        return memory_of(self.attention.step)

    @property
    def shares(self) -> bool:
        """True if later layers read what this one computes."""
        return bool(getattr(self.attention.step, "shares", False))

    @property
    def borrows(self) -> bool:
        """True if this layer reads keys and values of an earlier one alone."""
        return bool(getattr(self.attention.step, "borrows", False))

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map streams (tokens, streams, width) to (tokens, streams, width)."""
        predicted, active = self.altup.predict(x), self.altup.active
        computed = self.ffn(self.attention(predicted[:, active], context, memory))  # (tokens, width)
        corrected = self.altup.correct(predicted, computed)
        gated = corrected[:, active] * self.scale if self.scaled else corrected[:, active]
        more = self.extra_norm(self.extra(gated, context))[:, None]  # (tokens, 1, width)
        return torch.cat([corrected[:, :1], corrected[:, 1:] + more], 1)


class AltUpEmbeddings(PerLayerEmbeddings):
    """Token embeddings in several streams: the first as they are, the others projected to the same magnitude.

    Args:
        streams: how many.
    """

    def __init__(self, *args: Any, streams: int, width: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.streams = nn.ModuleList(Linear(width, width, bias=False) for _ in range(streams - 1))

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Return streams (tokens, streams, width)."""
        x = super().forward(words, context)
        return torch.stack([x, *(sized(project(x), x) for project in self.streams)], 1)


class AltUpMerge(nn.Module):
    """Mean of the streams, all but the first projected to its magnitude, and its norm."""

    def __init__(self, width: int, streams: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.streams = nn.ModuleList(Linear(width, width, bias=False) for _ in range(streams - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map streams (tokens, streams, width) to hidden states (tokens, width)."""
        first = x[:, 0]
        others = [sized(project(x[:, number]), first) for number, project in enumerate(self.streams, 1)]
        return self.norm(torch.stack([first, *others]).mean(0))


def sized(x: Tensor, like: Tensor) -> Tensor:
    """Return x, (tokens, width), with the root mean square of `like`."""
    own = x.square().mean(-1, keepdim=True).clamp(min=1e-5).sqrt()  # (tokens, 1)
    return x * like.square().mean(-1, keepdim=True).sqrt() / own
