"""Token mixing by a Fourier transform instead of attention (Lee-Thorp et al., 2021, arXiv:2105.03824)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cache.layer_cache import LayerCache
from .forward_context import ForwardContext


class FourierMixing(nn.Module):
    """Real part of the Fourier transform over tokens and channels of each sequence; it has no weights."""

    causal = False

    def memory(self) -> LayerCache:
        raise NotImplementedError("A Fourier transform needs the whole text at once and remembers nothing.")

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None = None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width), each sequence separately."""
        parts = [torch.fft.fftn(text.float()).real for text in x.split(context.runs.lengths) if text.shape[0]]
        return torch.cat(parts).to(x.dtype) if parts else x
