"""Matrix LSTM of xLSTM (Beck et al., 2024, arXiv:2405.04517), computed block by block (arXiv:2503.13427)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache.layer_cache import StateLayerCache
from .forward_context import ForwardContext
from .norms import HeadNorm
from .state_space import BLOCK, from_grid, to_grid
from .weights import Linear

State = tuple[Tensor, Tensor]  # matrix, logarithm of its scale


class MatrixLSTMCache:
    """Cached state of a matrix LSTM: the matrix of each head, with its normalizer, and the logarithm of its scale."""

    def __init__(self) -> None:
        self.matrix, self.scale = StateLayerCache(), StateLayerCache()

    def leaves(self) -> Iterator[StateLayerCache]:
        yield self.matrix
        yield self.scale


def gated_block(
    q: Tensor, k: Tensor, v: Tensor, enter: Tensor, forget: Tensor, state: State, eps: float
) -> tuple[Tensor, State]:
    """Return what the matrix answers at each place, (sequences, heads, places, value width), and the last state.

    matrix = f * matrix + i * k v'; the answer is q' matrix / max(|q' normalizer|, 1). The last column of values is 1,
    so that the last one of the matrix is the normalizer. Everything is scaled by the largest exponent so far, so that
    nothing overflows.

    Args:
        q, k: (sequences, heads, places, key width); queries are scaled. v: (sequences, heads, places, value width + 1).
        enter, forget: logarithms of both gates, (sequences, heads, places); -inf and 0 where there is no token.
        state: (sequences, heads, key width, value width + 1), (sequences, heads).
    """
    matrix, scale = state
    gone = forget.cumsum(-1)  # (sequences, heads, places)
    causal = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril()
    # (sequences, heads, now, then)
    left = (gone[..., :, None] - gone[..., None, :] + enter[..., None, :]).masked_fill(~causal, -torch.inf)
    old = gone + scale[..., None]  # (sequences, heads, places), of the state before this block
    top = torch.maximum(left.amax(-1), old)  # (sequences, heads, places)
    match = (q @ k.mT) * torch.exp(left - top[..., None])  # (sequences, heads, now, then)
    aged = q * torch.exp(old - top)[..., None]  # (sequences, heads, places, key width)
    both = match @ v + aged @ matrix  # (sequences, heads, places, value width + 1)
    answer = both[..., :-1] / (torch.maximum(both[..., -1].abs(), torch.exp(-top)) + eps)[..., None]
    last = top[..., -1]  # (sequences, heads)
    new = k * torch.exp(left[..., -1, :] - last[..., None])[..., None]  # (sequences, heads, places, key width)
    return answer, (torch.exp(old[..., -1] - last)[..., None, None] * matrix + new.mT @ v, last)


class MatrixLSTM(nn.Module):
    """Matrix memory with exponential input gates: out(sigmoid(gate(x)) * norm(answers)).

    Args:
        keys, values: widths of all heads together. cap: bound of the gates. norm_eps: of the norm of each head's
            answer. eps: of the answers' denominators.
    """

    def __init__(
        self, width: int, heads: int, keys: int, values: int, *, cap: float, norm_eps: float, eps: float
    ) -> None:
        super().__init__()
        self.q, self.k, self.v = (Linear(width, size, bias=False) for size in (keys, keys, values))
        self.gate, self.out = Linear(width, values, bias=False), Linear(values, width, bias=False)
        self.enter, self.forget = Linear(width, heads), Linear(width, heads)
        self.norm = HeadNorm(heads, values // heads, norm_eps)
        self.heads, self.cap, self.eps = heads, cap, eps

    def memory(self) -> MatrixLSTMCache:
        return MatrixLSTMCache()

    def forward(self, x: Tensor, context: ForwardContext, memory: MatrixLSTMCache | None) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        # In float32, since rounding errors of a state add up over the sequence: (tokens, heads, head width) each.
        q, k, v = (layer(x).float().unflatten(-1, (self.heads, -1)) for layer in (self.q, self.k, self.v))
        enter, forget = (self.cap * torch.tanh(layer(x).float() / self.cap) for layer in (self.enter, self.forget))
        answers = self._recall(q * q.shape[-1] ** -0.5, k, v, enter, forget, context, memory) if len(x) else v
        return self.out(torch.sigmoid(self.gate(x)) * self.norm(answers.to(x.dtype)).flatten(1))

    def _recall(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        enter: Tensor,
        forget: Tensor,
        context: ForwardContext,
        memory: MatrixLSTMCache | None,
    ) -> Tensor:
        """Return the answers (tokens, heads, value width) of queries, keys, values and gates (tokens, heads)."""
        v, texts = F.pad(v, (0, 1), value=1.0), len(context.runs)
        matrix = scale = None
        if memory is not None:
            matrix, scale = memory.matrix.read(context), memory.scale.read(context)
        if matrix is None or scale is None:
            # (sequences, heads, key width, value width + 1), (sequences, heads)
            matrix, scale = q.new_zeros(texts, self.heads, q.shape[-1], v.shape[-1]), q.new_zeros(texts, self.heads)
        state: State = matrix, scale
        _, real = context.cached("grid", lambda: context.runs.padded(q.device))  # (sequences, longest)
        # (sequences, heads, longest, ...) each; a place without a token changes no state
        parts = (q, k, v, enter, F.logsigmoid(forget))
        q, k, v, enter, forget = (to_grid(part, context).transpose(1, 2) for part in parts)
        enter = enter.masked_fill(~real[:, None], -torch.inf)
        rows = []
        for begin in range(0, q.shape[2], BLOCK):
            now = slice(begin, begin + BLOCK)
            gates = enter[:, :, now], forget[:, :, now]
            answer, state = gated_block(q[:, :, now], k[:, :, now], v[:, :, now], *gates, state, self.eps)
            rows.append(answer)
        if memory is not None:
            memory.matrix.write(context, state[0])
            memory.scale.write(context, state[1])
        return from_grid(torch.cat(rows, 2).transpose(1, 2), context)
