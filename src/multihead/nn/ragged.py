"""Between padded (batch, length) and ragged (tokens,): padding is dropped at the door and put back after the head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.ragged import SequenceLayout


@dataclass(frozen=True)
class Layout:
    """Where the real tokens of a padded batch are.

    Args:
        rows: (tokens,), place of each real token in the flattened (batch * length) grid; None when nothing is padded.
        shape: (batch, length) of the padded grid.
    """

    runs: SequenceLayout
    rows: Tensor | None
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor | None, shape: tuple[int, int]) -> Layout:
        """The layout of a batch; `mask` (batch, length) is nonzero at real tokens, None when all are."""
        batch, length = shape
        real = None if mask is None else mask.bool()
        if real is None or bool(real.all()):
            return cls(SequenceLayout.packed((length,) * batch), None, shape)
        return cls(SequenceLayout.packed(tuple(real.sum(-1).tolist())), real.flatten().nonzero().flatten(), shape)

    def columns(self, text: int) -> Tensor:
        """Columns of a text's tokens in the padded grid, (length,)."""
        begin, length = self.runs.begins[text], self.runs.lengths[text]
        if self.rows is None:
            return torch.arange(length)
        return self.rows[begin : begin + length] % self.shape[1]

    def pack(self, padded: Tensor) -> Tensor:
        """(batch, length, ...) to (tokens, ...)."""
        flat = padded.flatten(0, 1)
        return flat if self.rows is None else flat.index_select(0, self.rows)

    def pack_tokens(self, given: Tensor) -> Tensor:
        """(batch, length), one number a token, to (tokens,). Raises InvalidInput for another shape."""
        if tuple(given.shape) != self.shape:
            raise InvalidInput(f"One number a token is needed, {list(self.shape)}, not {list(given.shape)}.")
        return self.pack(given)

    def rows_at(self, columns: Tensor) -> Tensor:
        """Packed rows of tokens, (batch, n), given their columns in the padded grid. Raises InvalidInput."""
        if columns.ndim != 2 or columns.shape[0] != self.shape[0]:
            raise InvalidInput(f"Places of tokens need shape (batch, n), not {list(columns.shape)}.")
        if columns.numel() and (int(columns.min()) < 0 or int(columns.max()) >= self.shape[1]):
            raise InvalidInput(f"Places of tokens must lie within the text, 0 to {self.shape[1] - 1}.")
        cells = columns + torch.arange(self.shape[0], device=columns.device)[:, None] * self.shape[1]
        if self.rows is None:
            return cells
        return torch.searchsorted(self.rows, cells).clamp(max=max(self.rows.shape[0] - 1, 0))

    def unpack(self, tokens: Tensor) -> Tensor:
        """(tokens, ...) to (batch, length, ...), zero where the batch is padded."""
        if self.rows is not None:
            flat = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])
            tokens = flat.index_copy(0, self.rows, tokens)
        return tokens.unflatten(0, self.shape)


def places(runs: SequenceLayout, device: torch.device, past: tuple[int, ...] | None = None) -> Tensor:
    """(tokens,): each token's place in its own text, after `past` tokens that a cache remembers."""
    starts = past or (0,) * len(runs)
    if len(runs) == 1:
        return torch.arange(starts[0], starts[0] + runs.lengths[0], device=device)
    if runs.longest == 1 and 0 not in runs.lengths:
        return torch.tensor(starts, device=device)
    lengths = torch.tensor(runs.lengths, dtype=torch.long, device="cpu")
    shifts = torch.tensor(starts, dtype=torch.long, device="cpu") - (lengths.cumsum(0) - lengths)
    total = int(lengths.sum())
    return (torch.arange(total, device="cpu") + shifts.repeat_interleave(lengths, output_size=total)).to(device)


def ends(positions: Tensor, runs: SequenceLayout) -> tuple[int, ...]:
    """One more than the highest of each text's positions (tokens,), 0 for a text without tokens."""
    known = positions.tolist()
    return tuple(
        max(known[begin : begin + length], default=-1) + 1
        for begin, length in zip(runs.begins, runs.lengths, strict=True)
    )


def select(hidden: Tensor, runs: SequenceLayout, place: int) -> Tensor:
    """(texts, width): each text's state at `place` (0 its first token, -1 its last), zeros for an empty text."""
    lengths = torch.tensor(runs.lengths, device=hidden.device)
    begins = torch.tensor(runs.begins, device=hidden.device)
    rows = begins if place == 0 else begins + lengths + place
    if not hidden.shape[0]:
        return hidden.new_zeros(len(runs), hidden.shape[1])
    chosen = hidden.index_select(0, rows.clamp(0, hidden.shape[0] - 1))
    return chosen if 0 not in runs.lengths else chosen * (lengths > 0)[:, None]


def text_of(runs: SequenceLayout, device: torch.device) -> Tensor:
    """(tokens,): the number of the text that each token belongs to."""
    lengths = torch.tensor(runs.lengths, device=device)
    return torch.repeat_interleave(torch.arange(len(runs), device=device), lengths)


def mean(hidden: Tensor, runs: SequenceLayout) -> Tensor:
    """(texts, width): each text's mean state, zeros for a text without tokens."""
    total = hidden.new_zeros(len(runs), hidden.shape[1], dtype=torch.float32)
    total = total.index_add(0, text_of(runs, hidden.device), hidden.float())
    lengths = torch.tensor(runs.lengths, device=hidden.device).clamp(min=1)
    return (total / lengths[:, None]).to(hidden.dtype)
