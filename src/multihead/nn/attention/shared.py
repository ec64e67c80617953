"""Attention whose keys and values several layers share (Brandon et al., 2024, arXiv:2405.12981)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask
from ..cache.layer_cache import EmptyLayerCache, KVLayerCache
from ..forward_context import ForwardContext
from .attention import Attention


class NormedValueAttention(Attention):
    """Attention whose values are normalized too, and which may give its keys and values to later layers.

    Args:
        v_norm: of the values (tokens, key heads, head width).
        keyed: values are the keys before their norm; there is no projection of values.
        shares: name under which later layers of a pass find the keys and values; None to keep them.
    """

    def __init__(
        self, *args: Any, v_norm: nn.Module, keyed: bool = False, shares: str | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.v_norm, self.keyed, self.share_name = v_norm, keyed, shares
        if keyed:
            del self.v

    @property
    def shares(self) -> bool:
        """True if later layers read the keys and values of this one."""
        return self.share_name is not None

    def _products(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        q = self.q(x if rows is None else x.index_select(0, rows))  # (tokens, heads * head width)
        k = self.k(x)  # (tokens, key heads * head width)
        return q, k, k if self.keyed else self.v(x)

    def _shape(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = super()._shape(q, k, v)
        return q, k, self.v_norm(v)

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
        if self.share_name is not None:
            # (rows, key heads, head width) each, turned, with the cached tokens; or the storage of all pages
            context.share((NormedValueAttention, self.share_name), (k, v, attention_mask.keys))
        return super()._mix(q, k, v, attention_mask, bias, context, record)


class BorrowedKeyAttention(Attention):
    """Attention over the keys and values that an earlier layer of the same pass shares; it caches nothing.

    Args:
        source: name under which the earlier layer shares them.
    """

    borrows = True

    def __init__(self, *args: Any, source: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.source = source
        del self.k, self.v, self.k_norm

    def memory(self) -> Any:
        return EmptyLayerCache()

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        q = self.q_norm(self._split(self.q(x)))  # (tokens, heads, head width)
        k, v, runs = context.shared((NormedValueAttention, self.source))  # (rows, key heads, head width) each
        turned, _ = self.positions.rotate(q, q[:, :1], context)  # keys were turned by their own layer
        attention_mask = context.attention_mask(runs, causal=self.causal, window=self.window)
        return self._mix(turned, k, v, attention_mask, None, context, context.capture.attentions)
