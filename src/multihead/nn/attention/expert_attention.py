"""Mixture of attention heads (Zhang et al., 2022, arXiv:2210.05144): experts project queries and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cache.layer_cache import KVLayerCache
from ..experts import noted, top_k_softmax
from ..forward_context import ForwardContext
from ..weights import Linear
from .attention import Attention


class ExpertAttention(Attention):
    """Self-attention whose queries and outputs are projected by the experts of a token; all share keys and values.

    Each expert of a token has as many heads as there are key heads.

    Args:
        experts: number of them. chosen: of a token.
    """

    unpacked: ClassVar = ("router",)  # its numbers decide who is chosen

    def __init__(
        self, width: int, *, key_heads: int, head_width: int, experts: int, chosen: int, **options: Any
    ) -> None:
        none = {"q": nn.Identity(), "out": nn.Identity()}
        heads = key_heads * chosen
        super().__init__(
            width, heads, key_heads=key_heads, head_width=head_width, bias=False, projections=none, **options
        )
        inner = key_heads * head_width
        self.router, self.experts, self.key_heads, self.chosen = (
            Linear(width, experts, bias=False),
            experts,
            key_heads,
            chosen,
        )
        self.into, self.back = (
            nn.Parameter(torch.empty(experts, inner, width)),
            nn.Parameter(torch.empty(experts, width, inner)),
        )
        self.bias = nn.Parameter(torch.empty(width))

    def draw(self, name: str, parameter: Tensor, std: float) -> None:
        """Initialize a parameter in place."""
        parameter.zero_() if name == "bias" else parameter.normal_(0.0, std)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        # Noted twice, as the reference shows them.
        weights, chosen = top_k_softmax(self.chosen)(noted(noted(self.router(x).float())))  # (tokens, chosen) each
        flat = chosen.flatten()
        # (tokens * chosen, key heads * head width)
        q = self._apply_experts(x.repeat_interleave(self.chosen, 0), flat, self.into)
        # Heads that share a key head lie side by side: (tokens, key heads * chosen, head width).
        q = q.view(-1, self.chosen, self.key_heads, self.head_width).transpose(1, 2).flatten(1, 2)
        heads = self._attend(q, self._split(self.k(x)), self._split(self.v(x)), context, memory)
        heads = heads.unflatten(1, (self.key_heads, self.chosen)).transpose(1, 2)  # (tokens, chosen, key heads, width)
        out = self._apply_experts(heads.flatten(2).flatten(0, 1), flat, self.back)  # (tokens * chosen, width)
        return (out.view(*chosen.shape, out.shape[-1]) * weights.to(x.dtype)[..., None]).sum(1) + self.bias

    def _apply_experts(self, x: Tensor, chosen: Tensor, matrices: Tensor) -> Tensor:
        """Map rows (rows, inputs) to (rows, outputs), each by the matrix of its expert; chosen: (rows,)."""
        order = chosen.argsort(stable=True)
        counts: Sequence[int] = torch.bincount(chosen, minlength=self.experts).tolist()
        parts = [
            F.linear(x[places], matrices[expert]) for expert, places in enumerate(order.split(counts)) if len(places)
        ]
        return torch.cat(parts or [x.new_empty(0, matrices.shape[1])])[order.argsort()]

    def _mix(self, *args: Any) -> Tensor:
        """Do the same; attentions are shown expert by expert."""
        record = args[-1]
        mixed = super()._mix(*args)
        if record is not None:
            record[-1] = [
                x.unflatten(0, (self.key_heads, self.chosen)).transpose(0, 1).flatten(0, 1) for x in record[-1]
            ]
        return mixed
