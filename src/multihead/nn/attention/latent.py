"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values of all heads come from one vector."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import UnsupportedConfig
from ...kernels.backend import Bias
from ...kernels.ragged import AttentionMask, SequenceLayout
from ..cache.layer_cache import EmptyLayerCache, KVLayerCache
from ..forward_context import ForwardContext
from ..norms import RMSNorm
from ..weights import Linear
from .attention import Attention
from .indexer import Selection, chosen_rows, hiding


class LowRank(nn.Module):
    """Low-rank projection: up(norm(down(x)))."""

    def __init__(self, width: int, rank: int, out: int, *, bias: bool = False, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.down, self.norm, self.up = (
            Linear(width, rank, bias=bias),
            norm or RMSNorm(rank, 1e-6),
            Linear(rank, out, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.narrow(x))  # (tokens, out)

    def narrow(self, x: Tensor) -> Tensor:
        """Map (tokens, width) to the low-rank factor (tokens, rank)."""
        return self.norm(self.down(x))


class LatentAttention(Attention):
    """Attention that caches one latent vector and one rotated key a token, for any number of heads.

    Args:
        query_rank: of the queries' own factors, None for a full matrix. rank: of the latent.
        plain, turned: channels of a head's queries and keys that positions leave alone, and that they turn.
        value_width: of a head's values.
        selection: chooses the keys that each query sees, and has its own keys in the cache; None for all.
        latent_scale: of the normed latent vector (LongCat). norm_eps: of the norms of low-rank factors.
        shares: name under which later layers of a pass find the latent vectors and rotated keys; None to keep them.
        key_norm: of the rotated key, before it is turned (Dots 3 Note).
    """

    unpacked: ClassVar = ("k", "v")  # their matrices are read, too

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rank: int,
        query_rank: int | None,
        plain: int,
        turned: int,
        value_width: int,
        bias: bool,
        selection: Selection | None = None,
        latent_scale: float = 1.0,
        norm_eps: float = 1e-6,
        shares: str | None = None,
        key_norm: nn.Module | None = None,
        **options: Any,
    ) -> None:
        each = plain + turned
        q = Linear(width, heads * each, bias=False) if query_rank is None else None
        parts = {
            "q": q or LowRank(width, query_rank or 0, heads * each, bias=bias, norm=RMSNorm(query_rank or 0, norm_eps)),
            "k": Linear(rank, heads * plain, bias=False),
            "v": Linear(rank, heads * value_width, bias=False),
            "out": Linear(heads * value_width, width, bias=bias),
        }
        super().__init__(width, heads, head_width=each, projections=parts, **options)
        # One product gives the latent vector and the rotated key: (tokens, rank + turned).
        self.latent, self.latent_norm = Linear(width, rank + turned, bias=bias), RMSNorm(rank, norm_eps)
        self.key_norm = key_norm or nn.Identity()
        self.heads, self.rank, self.plain, self.turned = heads, rank, plain, turned
        if selection is not None and selection.reads_factor and query_rank is None:
            raise UnsupportedConfig("Keys are chosen by the queries' low-rank factor, and there is none.")
        self.selection, self.latent_scale, self.share_name = selection, latent_scale, shares

    @property
    def shares(self) -> bool:
        """True if later layers read the latent vectors of this one."""
        return self.share_name is not None

    def _heads(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        # (tokens, heads, plain), (tokens, heads, turned)
        low: Any = self.q
        # (tokens, query rank), where keys are chosen by it
        narrow = low.narrow(x) if self.selection is not None and isinstance(low, LowRank) else None
        q = self._split(low(x) if narrow is None else low.up(narrow))  # (tokens, heads, plain + turned)
        return self._read(x, q, narrow, context, memory)

    def _read(
        self, x: Tensor, q: Tensor, narrow: Tensor | None, context: ForwardContext, memory: KVLayerCache | None
    ) -> Tensor:
        """Return head outputs (tokens, heads, value width) of queries (tokens, heads, plain + turned)."""
        q = q if self.query_scale is None else self.query_scale(q, context)
        plain, turning = q.split((self.plain, self.turned), -1)
        turning, latent, key, index, runs = self._keys(x, turning, context, memory)
        attention_mask, bias = context.attention_mask(runs, causal=self.causal, window=self.window), None
        if self.selection is not None:
            chosen = self.selection.choose(x, narrow, index, attention_mask, context)  # (tokens, longest keys)
            latent, key, attention_mask, bias = self._choose(chosen, latent, key, attention_mask, context)
        if latent.shape[0] > 2 * x.shape[0]:  # few queries: move them to the latent instead of it to every head
            k, v = self._matrix(self.k), self._matrix(self.v)  # (heads, plain, rank), (heads, value width, rank)
            moved = torch.cat([torch.einsum("thp,hpr->thr", plain, k), turning], -1)  # (tokens, heads, rank + turned)
            keys = torch.cat([latent, key], -1)  # (rows, 1, rank + turned)
            # (tokens, heads, rank): the latent vectors are the values, too
            mixed = self._mix(moved, keys, latent, attention_mask, bias, context, context.capture.attentions)
            return torch.einsum("thr,hvr->thv", mixed, v)  # (tokens, heads, value width)
        shared = latent[:, 0]  # (rows, rank)
        # (rows, heads, plain + turned)
        own = torch.cat([self.k(shared).unflatten(-1, (self.heads, -1)), key.expand(-1, self.heads, -1)], -1)
        values = self.v(shared).unflatten(-1, (self.heads, -1))  # (rows, heads, value width)
        q = torch.cat([plain, turning], -1)  # (tokens, heads, plain + turned)
        return self._mix(q, own, values, attention_mask, bias, context, context.capture.attentions)

    def _keys(
        self, x: Tensor, turning: Tensor, context: ForwardContext, memory: KVLayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, SequenceLayout]:
        """Return turned queries, latent vectors, rotated keys, keys of the selection, and the layout of these rows.

        Args:
            x: states (tokens, width). turning: channels of queries to turn (tokens, heads, turned).

        Returns:
            (tokens, heads, turned), (rows, 1, rank), (rows, 1, turned) and (rows, 1, index width), the width 0 without
            such keys.
        """
        latent, key = self.latent(x).split((self.rank, self.turned), -1)  # (tokens, rank), (tokens, turned)
        # (tokens, heads, turned), and (tokens, 1, turned): all heads share one rotated key
        turning, key = self.positions.rotate(turning, self.key_norm(key[:, None]), context)
        latent, runs = self.latent_norm(latent)[:, None], context.runs  # latent: (tokens, 1, rank)
        latent = latent if self.latent_scale == 1.0 else latent * self.latent_scale
        index = None if self.selection is None else self.selection.keys(x, context)  # (tokens, 1, index width)
        key = key if index is None else torch.cat([key, index], -1)
        if memory is not None:
            latent, key, runs = memory.extend(latent, key, context)  # (rows, 1, rank), (rows, 1, turned + index width)
        key, kept = key.split((self.turned, key.shape[-1] - self.turned), -1)
        if self.share_name is not None:
            context.share((LatentAttention, self.share_name), (latent, key, runs))
        return turning, latent, key, kept, runs

    def _choose(
        self, chosen: Tensor | None, latent: Tensor, key: Tensor, attention_mask: AttentionMask,
        context: ForwardContext,
    ) -> tuple[Tensor, Tensor, AttentionMask, Bias | None]:  # fmt: skip
        """Return latent vectors and rotated keys of the rows to read, their mask, and a bias that hides the others."""
        if chosen is None:
            return latent, key, attention_mask, None
        if attention_mask.queries.longest == 1 and context.capture.attentions is None:  # read the chosen rows alone
            rows, attention_mask = chosen_rows(chosen, attention_mask)
            return latent[rows], key[rows], attention_mask, None
        return latent, key, attention_mask, hiding(chosen, attention_mask, latent.dtype)

    def _matrix(self, linear: nn.Module) -> Tensor:
        """Return the up-projection as (heads, channels, rank)."""
        return linear.weight.unflatten(0, (self.heads, -1))  # type: ignore[operator]


class BorrowedLatentAttention(LatentAttention):
    """Latent attention over the latent vectors and rotated keys that an earlier layer of the same pass shares.

    It caches the keys of its own selection alone (Mistral Large 4).

    Args:
        source: name under which the earlier layer shares them.
    """

    def __init__(self, width: int, heads: int, *, source: str, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.source = source
        del self.latent, self.latent_norm

    @property
    def borrows(self) -> bool:
        """True if it reads what earlier layers computed alone."""
        return self.selection is None or type(self.selection) is Selection

    def memory(self) -> Any:
        return EmptyLayerCache() if self.borrows else super().memory()

    def _keys(
        self, x: Tensor, turning: Tensor, context: ForwardContext, memory: KVLayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, SequenceLayout]:
        latent, key, runs = context.shared((LatentAttention, self.source))  # (rows, 1, rank), (rows, 1, turned)
        turning, _ = self.positions.rotate(turning, turning[:, :1], context)  # keys were turned by their own layer
        index = None if self.selection is None else self.selection.keys(x, context)  # (tokens, 1, index width)
        if index is None:
            return turning, latent, key, key[..., :0], runs
        if memory is not None:
            index, _, runs = memory.extend(index, index[..., :0], context)  # (rows, 1, index width)
        return turning, latent, key, index, runs


class HeadGatedLatentAttention(LatentAttention):
    """Latent attention whose head outputs are multiplied by sigmoids of the token's state, one a head (Ling 3.0)."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.head_gate = Linear(width, heads, bias=False)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        heads = self._heads(x, context, memory)  # (tokens, heads, value width)
        gates = torch.sigmoid(self.head_gate(x).float()).to(heads.dtype)  # (tokens, heads)
        return self.out((heads * gates[..., None]).flatten(1))


class GatedLatentAttention(LatentAttention):
    """Latent attention whose outputs are multiplied by sigmoids of the token's state, one a channel (Hy4)."""

    def __init__(self, width: int, heads: int, *, value_width: int, **options: Any) -> None:
        super().__init__(width, heads, value_width=value_width, **options)
        self.gate = Linear(width, heads * value_width, bias=False)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        return self.out(self._heads(x, context, memory).flatten(1) * torch.sigmoid(self.gate(x)))


class ChannelGatedLatentAttention(LatentAttention):
    """Latent attention with chosen keys, whose head outputs are gated channel by channel (A.X-K2).

    Queries and gates read the queries' low-rank factor, normed and not. The index reads the normed one.
    """

    def __init__(self, width: int, heads: int, *, query_rank: int, value_width: int, **options: Any) -> None:
        super().__init__(width, heads, query_rank=query_rank, value_width=value_width, **options)
        low: Any = self.q
        low.up = Linear(2 * query_rank, heads * self.head_width, bias=False)
        self.gate = Linear(2 * query_rank, heads * value_width, bias=False)

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        low: Any = self.q
        factor = low.down(x)  # (tokens, query rank)
        narrow = low.norm(factor)
        both = torch.cat([narrow, factor], -1)  # (tokens, 2 * query rank)
        heads = self._read(x, self._split(low.up(both)), narrow, context, memory).flatten(1)
        return self.out((heads * torch.sigmoid(self.gate(both).float())).to(heads.dtype))
