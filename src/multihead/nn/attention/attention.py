"""Self-attention and cross-attention on packed sequences."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...errors import UnsupportedConfig
from ...kernels.backend import Bias
from ...kernels.ops import backend
from ...kernels.ragged import AttentionMask
from ...kernels.torch.attention import attend
from ..cache.layer_cache import KVLayerCache
from ..encoder_output import EncoderOutput
from ..forward_context import ForwardContext
from ..positions import Positions, Rotary
from ..weights import Linear
from .query_scale import PositionScale


class Attention(nn.Module):
    """Self-attention over the tokens of this pass and the cached ones.

    Args:
        heads, key_heads: of queries, and of keys and values (fewer: grouped-query attention, arXiv:2305.13245).
        positions: how order enters; a module may be shared between layers.
        scale: of the scores, 1 / sqrt(head_width) unless the family says otherwise.
        window: how many tokens back a query sees, itself included; None for all.
        softcap: squeezes the scores (Gemma 2). q_norm, k_norm: of (tokens, heads, head width).
        norm_last: these norms come after the positions turned what they read (Hunyuan), not before.
        clip: bound of what is projected (OLMo, MPT). clips_normed: queries and keys after their norms (OLMoE).
        query_scale: scales queries (tokens, heads, head width) by their positions.
        sinks: each head has a learned score of a key that is always there and has no value (GPT-OSS).
        projections: layers that take the places of `q`, `k`, `v` or `out` (SqueezeBERT's groups).
        dropout: of the attention weights, in training.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int | None = None,
        key_heads: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        positions: Positions | None = None,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        norm_last: bool = False,
        clip: float | None = None,
        clips_normed: bool = False,
        query_scale: PositionScale | None = None,
        sinks: bool = False,
        projections: Mapping[str, nn.Module] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads and head_width is None:
            raise UnsupportedConfig(f"A width of {width} cannot be shared evenly by {heads} attention heads.")
        head_width, key_heads = head_width or width // heads, key_heads or heads
        if heads % key_heads:
            raise UnsupportedConfig(f"{heads} attention heads cannot share {key_heads} key heads evenly.")
        given = projections or {}
        self.q = given.get("q") or Linear(width, heads * head_width, bias=bias)  # weight (heads * head width, width)
        # weight (key heads * head width, width)
        self.k = given.get("k") or Linear(width, key_heads * head_width, bias=bias)
        self.v = given.get("v") or Linear(width, key_heads * head_width, bias=bias)
        out_bias = bias if out_bias is None else out_bias
        # weight (width, heads * head width)
        self.out = given.get("out") or Linear(heads * head_width, width, bias=out_bias)
        self.positions = positions or Positions()
        self.q_norm, self.k_norm = q_norm or nn.Identity(), k_norm or nn.Identity()
        self.head_width, self.causal, self.window, self.softcap = head_width, causal, window, softcap
        self.scale = head_width**-0.5 if scale is None else scale
        self.clip, self.clips_normed, self.dropout, self.query_scale = clip, clips_normed, dropout, query_scale
        self.norm_last = norm_last and type(self.positions) is not Positions  # without positions there is no order
        self.sinks = nn.Parameter(torch.empty(heads)) if sinks else None  # (heads,)

    def memory(self) -> KVLayerCache:
        return KVLayerCache(self.window if self.causal else None)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.out(self._heads(x, context, memory).flatten(1))  # flattened: (tokens, heads * head width)

    @property
    def pages(self) -> bool:
        """True if only the attention backend reads the keys, so that they may stay in pages of the KV cache."""
        kind = type(self.positions)
        return not self.norm_last and kind.bias is Positions.bias and kind.rotate in (Positions.rotate, Rotary.rotate)

    @property
    def supports_selected_tokens(self) -> bool:
        """True if a query's output does not depend on its position, so that a subset of queries can be computed."""
        plain = type(self) is Attention and type(self.positions) is Positions
        return plain and not self.causal and self.window is None

    def forward_selected(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Return the outputs of the selected tokens, (selected tokens, width), given all states (tokens, width)."""
        return self.out(self._selected_heads(x, context).flatten(1))

    def _selected_heads(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Return the head outputs of the selected tokens, (selected tokens, heads, head width)."""
        selected = context.selected
        assert selected is not None
        # q: (selected tokens, heads, head width); k, v: (tokens, key heads, head width)
        q, k, v = self._shape(*self._products(x, selected.rows))
        attention_mask = AttentionMask(selected.runs, context.runs)
        return self._mix(q, k, v, attention_mask, None, context, context.capture.attentions)

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Return the head outputs, (tokens, heads, head width)."""
        return self._attend(*self._project(x), context, memory)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Do the same, of queries (tokens, heads, head width), keys and values (tokens, key heads, head width)."""
        q = q if self.query_scale is None else self.query_scale(q, context)
        # After the first pass, a kernel that reads pages needs no copy of the cached keys and values.
        if (
            memory is not None
            and self.pages
            and context.reads_pages
            and backend(q).reads_pages(q, k, v)
            and not memory.plan(context).fresh
        ):
            # k, v: (slots, key heads, head width), the storage of all sequences
            q, k, v, runs = memory.place(q, k, v, self.positions.turns(context), context)
            attention_mask = context.attention_mask(runs, causal=self.causal, window=self.window)
            return self._mix(q, k, v, attention_mask, None, context, None)
        turned, k = self.positions.rotate(q, k, context)  # same shapes
        if self.norm_last:
            turned, k = self.q_norm(turned), self.k_norm(k)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.extend(k, v, context)  # k, v: (rows, key heads, head width), with the cached tokens
        attention_mask = context.attention_mask(runs, causal=self.causal, window=self.window)
        return self._mix(
            turned,
            k,
            v,
            attention_mask,
            self.positions.bias(q, k, attention_mask, context),  # of queries that are not rotated
            context,
            context.capture.attentions,
        )

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (tokens, heads, head width), keys and values (tokens, key heads, head width), not rotated."""
        return self._shape(*self._products(x))

    def _products(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the linear layers: (tokens, heads * head width) each; queries of `rows` only, where given."""
        return self.q(x if rows is None else x.index_select(0, rows)), self.k(x), self.v(x)

    def _shape(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clip, split into heads and normalize: (tokens, heads * head width) to (tokens, heads, head width) each."""
        # OLMo and MPT bound the projections to keep training stable.
        q, k, v = (q, k, self._clip(v)) if self.clips_normed else (self._clip(q), self._clip(k), self._clip(v))
        q, k, v = self._split(q), self._split(k), self._split(v)
        if self.norm_last:
            return q, k, v
        q, k = self.q_norm(q), self.k_norm(k)
        return (self._clip(q), self._clip(k), v) if self.clips_normed else (q, k, v)

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_width))  # (tokens, heads * head width) to (tokens, heads, head width)

    def _mix(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention_mask: AttentionMask,
        bias: Bias | None,
        context: ForwardContext,
        record: list[list[Tensor]] | None,
    ) -> Tensor:
        return self._weigh(q, k, v, attention_mask, bias, context, record, self.sinks)

    def _weigh(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention_mask: AttentionMask,
        bias: Bias | None,
        context: ForwardContext,
        record: list[list[Tensor]] | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """Return the head outputs (tokens, heads, head width); `sinks` as a backend's attention takes them."""
        dropout = self.dropout if self.training else 0.0
        numbers = {"scale": self.scale, "softcap": self.softcap, "dropout": dropout, "sinks": sinks}
        if record is None:
            # (tokens, heads, head width)
            mixed = context.attend(q, k, v, attention_mask, bias=bias, **numbers)  # type: ignore[arg-type]
        else:
            seen: list[Tensor] = []
            # Fast kernels never hold the whole matrix of probabilities; only the reference does.
            mixed = attend(q, k, v, attention_mask, bias=bias, probabilities=seen, **numbers)  # type: ignore[arg-type]
            record.append(seen)  # one (heads, queries, keys) a sequence
        return mixed


class CrossAttention(Attention):
    """Attention from decoder tokens to an encoded source, whose keys and values are projected once."""

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None = None) -> Tensor:
        source = context.encoder_output
        assert source is not None
        k, v = self.projected(source)  # (source tokens, key heads, head width) each
        # Each token sees its whole source.
        attention_mask = context.attention_mask(source.runs, causal=False, window=None)
        # (tokens, heads, head width)
        mixed = self._mix(self._split(self.q(x)), k, v, attention_mask, None, context, context.capture.cross_attentions)
        return self.out(mixed.flatten(1))

    def projected(self, source: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Return keys and values (source tokens, key heads, head width) of a source, computed once per source."""
        return source.project(self, lambda hidden: (self._split(self.k(hidden)), self._split(self.v(hidden))))
