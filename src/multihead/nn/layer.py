"""Transformer layers: residual blocks around attention and feed-forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .cache.layer_cache import EmptyLayerCache, HybridLayerCache, LayerCache, cache_or_none, memory_of
from .forward_context import ForwardContext
from .weights import Dropout


class Residual(nn.Module):
    """Residual block: x -> after(x + out(step(before(x)))).

    Where a norm stands decides the style: `before` is pre-norm, `after` is post-norm, `before` and `out` together are
    Gemma's sandwich, `out` alone is OLMo 2's.

    Args:
        scale: of what is added (Granite).
    """

    def __init__(
        self,
        step: nn.Module,
        *,
        before: nn.Module | None = None,
        out: nn.Module | None = None,
        after: nn.Module | None = None,
        dropout: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.step, self.scale = step, scale
        self.before, self.out, self.after = before or nn.Identity(), out or nn.Identity(), after or nn.Identity()
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width); `args` go to the step."""
        new = self.dropout(self.out(self.step(self.before(x), *args)))  # (tokens, width)
        # No product by 1, which would read and write the whole tensor.
        return self.after(x + (new if self.scale == 1.0 else new * self.scale))

    @property
    def supports_selected_tokens(self) -> bool:
        """True if the states of some tokens can be computed alone: outputs do not depend on query positions."""
        return type(self) is Residual and getattr(self.step, "supports_selected_tokens", False)

    def forward_selected(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Return the states of the selected tokens, (selected tokens, width)."""
        assert context.selected is not None
        # (selected tokens, width). The norm reads all tokens, since keys and values come from all of them.
        new = self.dropout(self.out(self.step.forward_selected(self.before(x), context)))  # type: ignore[operator]
        return self.after(x.index_select(0, context.selected.rows) + (new if self.scale == 1.0 else new * self.scale))


class WideResidual(Residual):
    """Residual block with a float32 stream, whatever the precision of its sublayer (Mamba)."""

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return x.float() + self.dropout(self.step(self.before(x), *args))  # (tokens, width), float32


class ScaledResidual(Residual):
    """Residual block that scales each channel of its input by a learned number: x -> keep * x + step(before(x))."""

    def __init__(self, step: nn.Module, width: int, **options: Any) -> None:
        super().__init__(step, **options)
        self.keep = nn.Parameter(torch.empty(width))  # (width,)

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize to the plain residual block."""
        parameter.fill_(1.0)

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.keep * x + self.dropout(self.step(self.before(x), *args))  # (tokens, width)

    @property
    def supports_selected_tokens(self) -> bool:
        return False


class NormedResidual(Residual):
    """Residual block that adds to its normalized input: x -> y + step(y) with y = before(x) (a BLOOM option)."""

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        normed = self.before(x)  # (tokens, width)
        return normed + self.dropout(self.step(normed, *args))


class WeightedResidual(NormedResidual):
    """Residual block that adds a share of its normalized input: x -> keep * y + scale * step(y) (MiniMax).

    Args:
        keep: of the normalized input.
    """

    def __init__(self, step: nn.Module, *, before: nn.Module, keep: float, scale: float) -> None:
        super().__init__(step, before=before, scale=scale)
        self.keep = keep

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        normed = self.before(x)  # (tokens, width)
        return normed * self.keep + self.step(normed, *args) * self.scale


class DepthResidual(Residual):
    """Residual block whose sum keeps its variance: sqrt((n - 1) / n) * x + out(step(before(x))) / sqrt(n) (Beam).

    Args:
        number: of the sum, counted from the embeddings, which are the first.
    """

    def __init__(self, step: nn.Module, number: int, **options: Any) -> None:
        super().__init__(step, **options)
        self.number = number

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        new = self.out(self.step(self.before(x), *args))  # (tokens, width)
        return new * self.number**-0.5 + x * ((self.number - 1) / self.number) ** 0.5


class Layer(nn.Module):
    """Self-attention (or another mixer), then feed-forward."""

    def __init__(self, attention: Residual, ffn: Residual) -> None:
        super().__init__()
        self.attention, self.ffn = attention, ffn

    def memory(self) -> LayerCache:
        return memory_of(getattr(self.attention, "step", self.attention))

    @property
    def supports_selected_tokens(self) -> bool:
        """True if the states of some tokens can be computed alone."""
        return type(self) is Layer and self.attention.supports_selected_tokens

    @property
    def shares(self) -> bool:
        """True if later layers read what this one computes."""
        return bool(getattr(getattr(self.attention, "step", None), "shares", False))

    @property
    def borrows(self) -> bool:
        """True if this layer reads keys and values of an earlier one alone."""
        return bool(getattr(getattr(self.attention, "step", None), "borrows", False))

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width), or to (selected tokens, width)."""
        if context.selected is not None:
            return self.ffn(self.attention.forward_selected(x, context))
        return self.ffn(self.attention(x, context, memory))


class MixerLayer(nn.Module):
    """Layer with a mixer that is no attention, and with a feed-forward or none (Bamba, Mamba)."""

    def __init__(self, mixer: Residual, ffn: Residual | None = None) -> None:
        super().__init__()
        self.mixer, self.ffn = mixer, ffn

    def memory(self) -> LayerCache:
        return memory_of(getattr(self.mixer, "step", self.mixer))

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        x = self.mixer(x, context, memory)
        return x if self.ffn is None else self.ffn(x)


class AttentionLayer(nn.Module):
    """Layer with attention and no feed-forward (Nemotron-H)."""

    def __init__(self, attention: Residual) -> None:
        super().__init__()
        self.attention = attention

    def memory(self) -> LayerCache:
        return memory_of(getattr(self.attention, "step", self.attention))

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.attention(x, context, memory)


class FeedForwardLayer(nn.Module):
    """Layer with a feed-forward alone (Nemotron-H)."""

    def __init__(self, ffn: Residual) -> None:
        super().__init__()
        self.ffn = ffn

    def memory(self) -> EmptyLayerCache:
        return EmptyLayerCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.ffn(x)


class Hybrid(nn.Module):
    """Two mixers in parallel, whose outputs are added (Falcon-H1).

    Args:
        into, out: scales of each one's input and result.
    """

    def __init__(
        self, first: nn.Module, second: nn.Module, *, into: tuple[float, float], out: tuple[float, float]
    ) -> None:
        super().__init__()
        self.first, self.second, self.into, self.given = first, second, into, out

    def memory(self) -> HybridLayerCache:
        return HybridLayerCache(memory_of(self.first), memory_of(self.second))

    def forward(self, x: Tensor, context: ForwardContext, memory: HybridLayerCache | None) -> Tensor:
        own = (None, None) if memory is None else (cache_or_none(memory.first), cache_or_none(memory.second))
        parts = zip((self.first, self.second), own, self.into, self.given, strict=True)
        first, second = (mix(x * into, context, held) * out for mix, held, into, out in parts)  # (tokens, width) each
        return first + second


class ParallelLayer(nn.Module):
    """Parallel layer: x + attention(norm(x)) + ffn(norm(x)) (GPT-J).

    Args:
        ffn_norm: the feed-forward's own norm of x (GPT-NeoX); None shares the one norm.
    """

    def __init__(
        self,
        attention: nn.Module,
        ffn: nn.Module,
        norm: nn.Module,
        *,
        ffn_norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.ffn, self.norm, self.ffn_norm = attention, ffn, norm, ffn_norm
        self.dropout = Dropout(dropout)

    def memory(self) -> LayerCache:
        return memory_of(self.attention)

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        normed = self.norm(x)  # (tokens, width)
        other = normed if self.ffn_norm is None else self.ffn_norm(x)
        return x + self.dropout(self.attention(normed, context, memory)) + self.dropout(self.ffn(other))


class CrossLayer(Layer):
    """Decoder layer with cross-attention; without a source it is a plain layer."""

    def __init__(self, attention: Residual, cross: Residual, ffn: Residual) -> None:
        super().__init__(attention, ffn)
        self.cross = cross

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        x = self.attention(x, context, memory)  # (tokens, width)
        if context.encoder_output is not None:
            x = self.cross(x, context)  # (tokens, width)
        return self.ffn(x)


class ShortcutLayer(nn.Module):
    """Two layers, and experts that read what the first one's feed-forward reads; their result comes in at the end.

    So experts on other devices can work while this one goes on (Cai et al., 2024, arXiv:2404.05019).

    Args:
        attention, norm, ffn: the first layer; the norm is of what the feed-forward and the experts read.
    """

    def __init__(self, attention: Residual, norm: nn.Module, ffn: nn.Module, experts: nn.Module, second: Layer) -> None:
        super().__init__()
        self.attention, self.norm, self.ffn, self.experts, self.second = attention, norm, ffn, experts, second

    def memory(self) -> HybridLayerCache:
        return HybridLayerCache(memory_of(self.attention.step), self.second.memory())

    def forward(self, x: Tensor, context: ForwardContext, memory: HybridLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        own = (None, None) if memory is None else (cache_or_none(memory.first), cache_or_none(memory.second))
        x = self.attention(x, context, own[0])
        normed = self.norm(x)  # (tokens, width)
        return self.second(x + self.ffn(normed), context, own[1]) + self.experts(normed)
