"""The gated delta rule: a linear recurrence whose state forgets, and corrects what it holds under a key.

Of each head, with a state S of (key width, value width), a token does

    S = exp(g) * S;  S = S + k (beta * (v - S^T k))^T;  output = S^T q

(Yang et al., 2024, arXiv:2412.06464). g is one number a head, or one a key channel (Kimi Delta Attention,
arXiv:2510.26692). Prompts are cut into chunks, whose tokens are computed in matrix products (the WY form of
arXiv:2406.06484); the state goes from chunk to chunk. All of it is float32: rounding errors of a state add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.ragged import SequenceLayout

CHUNK = 64  # tokens of a chunk, with one decay a head
CHANNEL_CHUNK = 16  # with one a channel, where the decay of each pair of tokens is a vector


@dataclass(frozen=True)
class Chunks:
    """Cut of ragged sequences into chunks; no chunk holds tokens of two sequences.

    Args:
        rows: (chunks, size), the token of each place, 0 where there is none. real: (chunks, size), whether there is.
        places: (tokens,), the place of each token in the flattened chunks.
        order: sequences by falling number of chunks. active: for the first, second, ... chunk of each sequence, how
            many sequences have one. steps: (chunks of all sequences,), by number in the sequence, then by `order`.
    """

    rows: Tensor
    real: Tensor
    places: Tensor
    order: tuple[int, ...]
    active: tuple[int, ...]
    steps: Tensor

    @classmethod
    def of(cls, runs: SequenceLayout, size: int, device: torch.device) -> Chunks:
        """Cut sequences into chunks of at most `size` tokens."""
        size = max(min(size, runs.longest), 1)
        counts = [-(-length // size) for length in runs.lengths]
        firsts, total = [], 0
        for count in counts:
            firsts.append(total)
            total += count
        order = tuple(sorted(range(len(counts)), key=lambda text: -counts[text]))
        active = tuple(sum(count > step for count in counts) for step in range(max(counts, default=0)))
        steps = [firsts[text] + step for step, number in enumerate(active) for text in order[:number]]
        # Places and rows are made on the host in one piece, without a wait for the device.
        places = [torch.arange(length) + first * size for first, length in zip(firsts, runs.lengths, strict=True)]
        rows = [torch.arange(length) + begin for begin, length in zip(runs.begins, runs.lengths, strict=True)]
        at, row = torch.cat(places), torch.cat(rows)  # (tokens,) each
        table, real = torch.zeros(total * size, dtype=torch.long), torch.zeros(total * size, dtype=torch.bool)
        table[at], real[at] = row, True
        flat = torch.zeros(len(row), dtype=torch.long)
        flat[row] = at
        shape = (total, size)
        return cls(
            table.view(shape).to(device), real.view(shape).to(device), flat.to(device), order, active,
            torch.tensor(steps, dtype=torch.long, device=device),
        )  # fmt: skip

    def cut(self, x: Tensor) -> Tensor:
        """Arrange (tokens, heads, ...) as (chunks, heads, size, ...), zero where there is no token."""
        parts = x[self.rows] * self.real.view(*self.real.shape, *(1,) * (x.ndim - 1))  # (chunks, size, heads, ...)
        return parts.transpose(1, 2)

    def joined(self, x: Tensor) -> Tensor:
        """Arrange (chunks, heads, size, ...) as (tokens, heads, ...)."""
        return x.transpose(1, 2).flatten(0, 1)[self.places]


def unit(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale vectors (..., width) to length 1."""
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps)


def delta_step(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read one token of each sequence.

    Args:
        q, k: (sequences, key heads, key width), float32. v: (sequences, heads, value width).
        decay: logarithms, (sequences, heads) or (sequences, heads, key width). beta: (sequences, heads).
        state: (sequences, heads, key width, value width).

    Returns:
        Outputs (sequences, heads, value width) and the states after the token.
    """
    q, k = (each_value_head(x, v.shape[1]) for x in (q, k))  # (sequences, heads, key width)
    state = state * torch.exp(decay if decay.ndim == 3 else decay[..., None])[..., None]
    held = torch.einsum("thkv,thk->thv", state, k)  # what the state has under the key
    state = state + k[..., None] * (beta[..., None] * (v - held))[..., None, :]
    return torch.einsum("thkv,thk->thv", state, q), state


def delta_chunks(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor, chunks: Chunks
) -> tuple[Tensor, Tensor]:
    """Read ragged sequences of tokens chunk by chunk; arguments as `delta_step`, with tokens in place of sequences."""
    q, k, v, decay, beta = (chunks.cut(x) for x in (q, k, v, decay, beta))  # (chunks, heads, size, ...)
    gone = decay.cumsum(2)  # logarithms of all decays since the chunk's begin, a token's own included
    heads = v.shape[1]
    if decay.ndim == 3:
        match, seen = _pairs_by_head(q, k, gone)
        gone = gone[..., None]  # (chunks, heads, size, 1)
        k, q = (each_value_head(x, heads) for x in (k, q))
    else:
        k, q = (each_value_head(x, heads) for x in (k, q))
        match, seen = _pairs_by_channel(q, k, gone)
    # (chunks, heads, size, value width + key width): what is written, and what is read of the state before, once each
    # token has the corrections of the tokens before it in the chunk. The diagonal of the system counts as 1.
    right = torch.cat([v, k * torch.exp(gone)], -1) * beta[..., None]
    solved = torch.linalg.solve_triangular(match * beta[..., None], right, upper=False, unitriangular=True)
    new, old = solved.split((v.shape[-1], k.shape[-1]), -1)
    last = gone[:, :, -1:]  # (chunks, heads, 1, key width or 1)
    ask, keep, left = q * torch.exp(gone), torch.exp(last).transpose(2, 3), k * torch.exp(last - gone)
    return _scan(new, old, ask, seen, left, keep, state, chunks)


def _scan(
    new: Tensor, old: Tensor, ask: Tensor, seen: Tensor, left: Tensor, keep: Tensor, state: Tensor, chunks: Chunks
) -> tuple[Tensor, Tensor]:
    """Take states (sequences, heads, key width, value width) through the chunks.

    Args:
        new: (chunks, heads, size, value width), what tokens write. old, ask, left: (chunks, heads, size, key width),
            what they read of the state before to correct and to answer, and under which keys they leave it.
        seen: (chunks, heads, size, size), how much of each token the later ones read.
        keep: (chunks, heads, key width or 1, 1), of the state after the chunk.
    """
    new, old, ask, seen, left, keep = (x[chunks.steps] for x in (new, old, ask, seen, left, keep))
    order = torch.tensor(chunks.order, device=state.device)
    state, outputs, ended = state[order], [], list[Tensor]()
    for part in zip(*(x.split(chunks.active) for x in (new, old, ask, seen, left, keep)), strict=True):
        new, old, ask, seen, left, keep = part
        if len(new) < len(state):  # sequences that have ended
            ended.append(state[len(new) :])
            state = state[: len(new)]
        written = new - old @ state  # (sequences, heads, size, value width)
        outputs.append(ask @ state + seen @ written)
        state = state * keep + left.transpose(2, 3) @ written
    state = torch.cat([state, *reversed(ended)])
    if not outputs:
        return new.transpose(1, 2).flatten(0, 1), state[order.argsort()]
    by_step = torch.cat(outputs)  # in the order of `steps`
    return chunks.joined(by_step[chunks.steps.argsort()]), state[order.argsort()]


def _pairs_by_head(q: Tensor, k: Tensor, gone: Tensor) -> tuple[Tensor, Tensor]:
    """Return products of keys, and of queries with keys, decayed from the one to the other.

    Args:
        q, k: (chunks, key heads, size, key width). gone: (chunks, heads, size).

    Returns:
        (chunks, heads, size, size) each, zero for later keys.
    """
    heads, size = gone.shape[1:]
    later = torch.ones(size, size, dtype=torch.bool, device=k.device).triu(1)
    # Masked before exp, which could overflow at later keys.
    keep = torch.exp((gone[..., None] - gone[:, :, None]).masked_fill(later, -torch.inf))
    keys = k.transpose(2, 3)  # (chunks, key heads, key width, size)
    return each_value_head(k @ keys, heads) * keep, each_value_head(q @ keys, heads) * keep


def _pairs_by_channel(q: Tensor, k: Tensor, gone: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same with a decay for each key channel, (chunks, heads, size, key width)."""
    size = gone.shape[2]
    later = torch.ones(size, size, dtype=torch.bool, device=k.device).triu(1)[..., None]
    # (chunks, heads, size, size, key width)
    keep = torch.exp((gone[:, :, :, None] - gone[:, :, None]).masked_fill(later, -torch.inf))
    keys = keep * k[:, :, None]
    return torch.einsum("chlmk,chlk->chlm", keys, k), torch.einsum("chlmk,chlk->chlm", keys, q)


def each_value_head(x: Tensor, heads: int) -> Tensor:
    """Repeat key heads (..., key heads, ...), axis 1, for the value heads that share them."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)
