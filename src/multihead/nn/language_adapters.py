"""Feed-forward networks of each language behind a layer's own (X-MOD, Pfeiffer et al., 2022, arXiv:2205.06266)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from .cache.layer_cache import LayerCache
from .forward_context import ForwardContext
from .layer import Layer, Residual

LANGUAGES = "lang_ids"  # in `ForwardContext.extra_inputs`: (tokens,), the number of each token's language


class AdaptedResidual(Residual):
    """Residual block with an adapter of each token's language after the sum: after(x + adapter(norm(x))).

    Args:
        adapters: one feed-forward a language. default: the language of texts that name none; None for no such.
        norm: before the adapters. inside: what is added to the adapter's result is normalized too.
    """

    def __init__(
        self,
        step: nn.Module,
        *,
        adapters: Sequence[nn.Module],
        norm: nn.Module,
        inside: bool,
        default: int | None,
        **options: Any,
    ) -> None:
        super().__init__(step, **options)
        self.adapters, self.norm, self.inside, self.default = nn.ModuleList(adapters), norm, inside, default

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width); the last argument is the forward context."""
        x = x + self.dropout(self.step(self.before(x)))
        normed = self.norm(x)
        return self.after(self.dropout(self._adapt(normed, args[-1])) + (normed if self.inside else x))

    def _adapt(self, x: Tensor, context: ForwardContext) -> Tensor:
        languages = context.extra_inputs.get(LANGUAGES)
        if languages is None:
            if self.default is None:
                raise InvalidInput(
                    "This model needs the language of each text: give lang_ids, or load it with default_language."
                )
            return self.adapters[self.default](x)
        out = torch.zeros_like(x)
        for number, adapter in enumerate(self.adapters):
            rows = (languages == number).nonzero().flatten()
            if len(rows):
                out = out.index_copy(0, rows, adapter(x[rows]))
        return out


class AdaptedLayer(Layer):
    """Layer whose feed-forward block reads the languages of tokens; a decoder's may have cross-attention."""

    def __init__(self, attention: Residual, cross: Residual | None, ffn: AdaptedResidual) -> None:
        super().__init__(attention, ffn)
        self.cross = cross

    def forward(self, x: Tensor, context: ForwardContext, memory: LayerCache | None) -> Tensor:
        x = self.attention(x, context, memory)  # (tokens, width)
        if self.cross is not None and context.encoder_output is not None:
            x = self.cross(x, context)
        return self.ffn(x, context)
