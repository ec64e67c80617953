"""Attention with biases by distance whose queries and keys have bounded lengths (Inkling 2, Thinking Machines Lab)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..forward_context import ForwardContext
from ..norms import LengthBound, PlainRMSNorm, ScaledLengthBound
from ..weights import Linear
from .distance_profiles import ProfiledAttention


class BoundedProfileAttention(ProfiledAttention):
    """Profiled attention over bounded queries and keys and normed values, with gates and a sink that each token scores.

    It reads states (tokens, width), or (tokens, 3, width): those of queries, of keys and of values.

    Args:
        bound: of the lengths of queries and keys. profile_bound: of those of a head's shares of the profiles.
        dynamic: the convolutions read the states of keys and values, too.
        norm_eps: of the values' norm.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int,
        profiles: int,
        bound: float,
        profile_bound: float,
        dynamic: bool,
        norm_eps: float,
        **options: Any,
    ) -> None:
        norms: dict[str, Any] = {
            "q_norm": ScaledLengthBound(heads, head_width, bound),
            "k_norm": LengthBound(bound),
        }
        super().__init__(width, heads, head_width=head_width, profiles=profiles, **norms, **options)
        self.v_norm, self.mix_bound = (
            PlainRMSNorm(head_width, norm_eps),
            ScaledLengthBound(heads, profiles, profile_bound),
        )
        self.gate, self.sink = Linear(width, heads * head_width, bias=False), Linear(width, heads, bias=False)
        self.dynamic = dynamic

    def forward(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        """Map states to (tokens, width)."""
        heads = self._heads(x, context, memory).flatten(1)  # (tokens, heads * head width)
        gates = torch.sigmoid(self.gate(x if x.ndim == 2 else x[:, 0]).float())
        return self.out((heads.float() * gates).to(heads.dtype))

    def _heads(self, x: Tensor, context: ForwardContext, memory: Any) -> Tensor:
        own = (None, None) if memory is None else (memory.keys, memory.values)
        for_q, for_k, for_v = (x, x, x) if x.ndim == 2 else x.unbind(1)  # (tokens, width) each
        k = self.k_convolution(self.k(for_k), context, own[0], *((for_k,) if self.dynamic else ()))
        v = self.v_convolution(self.v(for_v), context, own[1], *((for_v,) if self.dynamic else ()))
        q, k, v = self._shape(self.q(for_q), k, v)
        v = self.v_norm(v)  # (tokens, key heads, head width)
        shares = self.mix_bound(
            self.mix(for_q).unflatten(-1, (-1, self.profiles.shape[0]))
        )  # (tokens, heads, profiles)
        if self.log_scale is not None:
            q, shares = self.log_scale(q, context.positions), self.log_scale(shares, context.positions)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.pairs.extend(k, v, context)  # (rows, key heads, head width), with the cached tokens
        attention_mask = context.attention_mask(runs, causal=True, window=self.window)
        bias = self._by_distance(shares @ self.profiles, attention_mask, context)
        record = context.capture.attentions
        return self._weigh(q, k, v, attention_mask, bias, context, record, self.sink(for_q))
