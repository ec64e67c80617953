"""Backbones: a stack of layers, or an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..kernels.ragged import SequenceLayout
from .attention.attention import CrossAttention
from .cache.layer_cache import LayerCache, cache_or_none, memory_of
from .embeddings import Embeddings
from .experts import parts_without_experts
from .forward_context import ForwardContext
from .hooks import is_hooked
from .layer import Layer
from .masked_next import MaskedNext
from .positions import RotaryByLength
from .ragged import Layout


class Stack(nn.Module):
    """Embeddings, layers and a final norm; an encoder or a decoder, as its attention is.

    `adjust`, which a head may set, changes the forward context before the first layer, for example the
    tokens with global attention.
    `recompute`, which training may set, keeps a layer's input only and computes the layer again for its gradient (Chen
    et al., 2016, arXiv:1604.06174).
    `masked_next`, which a family may set, is the mask behind a text that stands for the next token.

    Args:
        out: a projection of the normed states (OPT).
        after: hidden states are shown after each layer and after the norm, the embeddings not (Mamba).
        drop: probability of leaving a layer out, in training (Fan et al., 2019, arXiv:1909.11556).
    """

    adjust: Callable[[ForwardContext], ForwardContext] | None = None
    recompute = False
    masked_next: MaskedNext | None = None

    def __init__(
        self,
        embed: Embeddings,
        layers: Sequence[nn.Module],
        norm: nn.Module | None = None,
        out: nn.Module | None = None,
        drop: float = 0.0,
        after: bool = False,
    ) -> None:
        super().__init__()
        self.embed, self.layers = embed, nn.ModuleList(layers)
        self.norm, self.out, self.drop, self.after = norm or nn.Identity(), out or nn.Identity(), drop, after

    @property
    def causal(self) -> bool:
        """True if no token sees the tokens after it."""
        # Cross-attention reads the source alone, so it does not count.
        parts = (
            part
            for layer in self.layers
            for part in parts_without_experts(layer)
            if not isinstance(part, CrossAttention)
        )
        return all(getattr(part, "causal", True) for part in parts)

    @property
    def continues(self) -> bool:
        """True if a text can be continued token by token, after what a cache keeps of it."""
        return self.causal

    @property
    def remembers(self) -> bool:
        """True if a pass returns a cache by default."""
        return self.causal

    @property
    def supports_selected_tokens(self) -> bool:
        """True if the last layer can compute the states of some tokens alone (`ForwardContext.selected`)."""
        last = self.layers[-1] if len(self.layers) else None
        if not isinstance(last, Layer) or not last.supports_selected_tokens or self.adjust is not None or self.drop:
            return False
        return not any(map(is_hooked, last.modules()))  # `forward_selected` would skip hooks

    @property
    def num_borrowing(self) -> int:
        """Number of last layers that read keys and values of earlier layers alone, so that any tokens do without."""
        borrowing = list(takewhile(lambda layer: getattr(layer, "borrows", False), reversed(self.layers)))
        if not borrowing:
            return 0
        # Hooks expect all tokens, and some rotations depend on how many there are.
        plain = self.adjust is None and not self.drop and not self.by_length
        return len(borrowing) if plain and not any(map(is_hooked, self.modules())) else 0

    @property
    def typed(self) -> bool:
        """True if the model has token types."""
        return self.embed.typed

    def filled(self, layout: Layout, context: ForwardContext) -> Layout:
        """Return the layout of the resulting states, given the layout of the inputs."""
        return layout

    def output_runs(self, context: ForwardContext) -> SequenceLayout:
        """Return the layout of the sequences of resulting states, after a pass."""
        return context.runs

    @property
    def by_length(self) -> tuple[RotaryByLength, ...]:
        """Position modules that rotate keys by the length of their sequence."""
        found = (part for part in parts_without_experts(self) if isinstance(part, RotaryByLength))
        return tuple(dict.fromkeys(found))  # layers share them

    def memories(self) -> list[LayerCache]:
        """Return an empty layer cache for each layer."""
        return [memory_of(layer) for layer in self.layers]

    def shown(self, x: Tensor) -> Tensor:
        """Return the hidden states that outputs show, of what a layer reads."""
        return x

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, embedding width) to hidden states (tokens, width)."""
        context = context if self.adjust is None else self.adjust(context)
        # All layers but the last need every token, since later layers read keys and values of all of them.
        selected, context = context.selected, context if context.selected is None else replace(context, selected=None)
        runs, narrow = context.runs, len(self.layers) - (self.num_borrowing if selected is not None else 0)
        x = self.embed(words, context)  # (tokens, width)
        seen = context.capture.hidden
        memories = map(cache_or_none, context.cache.layers if context.cache else [None] * len(self.layers))
        for number, (layer, memory) in enumerate(zip(self.layers, memories, strict=True), 1):
            if selected is not None and number > narrow and context.runs is runs:
                x, context = x.index_select(0, selected.rows), context.of_last_tokens(selected)
            elif selected is not None and number == len(self.layers) and context.runs is runs:
                context = replace(context, selected=selected)
            if seen is not None and not self.after:
                seen.append(self.shown(x))
            # Drawn on the host: no wait for the device.
            if not (self.drop and self.training and torch.rand(()) < self.drop):
                # (tokens, width); after the last layer (selected tokens, width), where tokens are selected
                x = self._through(layer, x, context, memory)
            if seen is not None and self.after:
                seen.append(self.shown(x))
        # Only now, since every layer reads the cached lengths of before the pass.
        if context.cache is not None:
            context.cache.advance(runs)
        x = self.out(self.norm(x))  # (tokens, width)
        if seen is not None:
            seen.append(x)
        return x

    def _through(self, layer: nn.Module, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        # A layer that is computed twice would write its cache twice. What it shares would not reach later layers.
        twice = self.recompute and memory is None and not getattr(layer, "shares", False)
        if not (twice and torch.is_grad_enabled()):
            return layer(x, context, memory)
        # Each run has its own context, so that tensors cached in one do not enter the other.
        return checkpoint(lambda given: layer(given, context.for_recompute(), None), x, use_reentrant=False)


class EncoderDecoder(nn.Module):
    """Encoder and decoder with cross-attention; calling it calls the decoder.

    Args:
        bridge: between encoded states and those that the decoder attends to, where their widths differ.
    """

    def __init__(self, encoder: Stack, decoder: Stack, bridge: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder, self.bridge = encoder, decoder, bridge or nn.Identity()

    @property
    def causal(self) -> bool:
        return self.decoder.causal

    @property
    def continues(self) -> bool:
        return self.decoder.continues

    @property
    def embed(self) -> Embeddings:
        return self.decoder.embed

    @property
    def by_length(self) -> tuple[RotaryByLength, ...]:
        return self.decoder.by_length

    def output_runs(self, context: ForwardContext) -> SequenceLayout:
        return self.decoder.output_runs(context)

    def memories(self) -> list[LayerCache]:
        return self.decoder.memories()

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        return self.decoder(words, context)


def set_gradient_checkpointing(model: nn.Module, whether: bool = True) -> None:
    """Set gradient checkpointing of the layers; see `Stack.recompute`."""
    for part in model.modules():
        if hasattr(part, "recompute"):
            part.recompute = whether  # type: ignore[assignment]
