"""Conversion between padded tensors (batch, length) and packed ones (tokens,), without padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.ragged import SequenceLayout


@dataclass(frozen=True)
class ShorterStates:
    """States of sequences that are not as long as their texts.

    Args:
        states: (positions, width). runs: the positions of each sequence.
    """

    states: Tensor
    runs: SequenceLayout

    def padded(self) -> Tensor:
        """Return the states (batch, longest, width), zero at padding on the right."""
        rows, real = self.runs.padded(self.states.device)  # (batch, longest) each
        return self.states[rows] * real[..., None]


@dataclass(frozen=True)
class Layout:
    """Positions of the real tokens in a padded batch.

    Args:
        rows: (tokens,), place of each real token in the flattened (batch * length) grid; None when nothing is padded.
        shape: (batch, length) of the padded grid.
    """

    runs: SequenceLayout
    rows: Tensor | None
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor | None, shape: tuple[int, int]) -> Layout:
        """Build the layout of a batch; `mask` (batch, length) is nonzero at real tokens, None when all are real."""
        batch, length = shape
        real = None if mask is None else mask.bool()
        if real is None or bool(real.all()):  # without padding, packing is a view
            return cls(SequenceLayout.packed((length,) * batch), None, shape)
        # Lengths are needed on the host, so this waits for the device once a batch.
        return cls(SequenceLayout.packed(tuple(real.sum(-1).tolist())), real.flatten().nonzero().flatten(), shape)

    def columns(self, text: int) -> Tensor:
        """Return the columns of a sequence's tokens in the padded grid, (length,)."""
        begin, length = self.runs.begins[text], self.runs.lengths[text]
        if self.rows is None:
            return torch.arange(length)
        return self.rows[begin : begin + length] % self.shape[1]

    def pack(self, padded: Tensor) -> Tensor:
        """Pack (batch, length, ...) to (tokens, ...)."""
        flat = padded.flatten(0, 1)  # (batch * length, ...)
        return flat if self.rows is None else flat.index_select(0, self.rows)

    def pack_tokens(self, given: Tensor) -> Tensor:
        """Pack one number a token: (batch, length) to (tokens,). Raises InvalidInput for another shape."""
        if tuple(given.shape) != self.shape:
            raise InvalidInput(f"One number a token is needed, {list(self.shape)}, not {list(given.shape)}.")
        return self.pack(given)

    def rows_at(self, columns: Tensor) -> Tensor:
        """Return packed rows of tokens, (batch, n), from their columns in the padded grid. Raises InvalidInput."""
        if columns.ndim != 2 or columns.shape[0] != self.shape[0]:
            raise InvalidInput(f"Places of tokens need shape (batch, n), not {list(columns.shape)}.")
        if columns.numel() and (int(columns.min()) < 0 or int(columns.max()) >= self.shape[1]):
            raise InvalidInput(f"Places of tokens must lie within the text, 0 to {self.shape[1] - 1}.")
        # (batch, n), in the flattened grid
        cells = columns + torch.arange(self.shape[0], device=columns.device)[:, None] * self.shape[1]
        if self.rows is None:
            return cells
        # `rows` ascend, so the packed row of a cell is the number of rows before it.
        return torch.searchsorted(self.rows, cells).clamp(max=max(self.rows.shape[0] - 1, 0))

    def unpack(self, tokens: Tensor | ShorterStates) -> Tensor:
        """Unpack (tokens, ...) to (batch, length, ...), zero at padding."""
        if isinstance(tokens, ShorterStates):
            return tokens.padded()
        if self.rows is not None:
            flat = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])  # (batch * length, ...)
            tokens = flat.index_copy(0, self.rows, tokens)
        return tokens.unflatten(0, self.shape)


def positions_in_sequences(runs: SequenceLayout, device: torch.device, past: tuple[int, ...] | None = None) -> Tensor:
    """Return each token's position in its own sequence, (tokens,), after `past` cached tokens."""
    starts = past or (0,) * len(runs)
    if len(runs) == 1:
        return torch.arange(starts[0], starts[0] + runs.lengths[0], device=device)
    if runs.longest == 1 and 0 not in runs.lengths:  # a decode step
        return torch.tensor(starts, device=device)
    # On the host, where the sum is known without a wait for the device: (sequences,).
    lengths = torch.tensor(runs.lengths, dtype=torch.long, device="cpu")
    # (sequences,), position minus row
    shifts = torch.tensor(starts, dtype=torch.long, device="cpu") - (lengths.cumsum(0) - lengths)
    total = int(lengths.sum())
    # (tokens,)
    return (torch.arange(total, device="cpu") + shifts.repeat_interleave(lengths, output_size=total)).to(device)


def sequence_ends(positions: Tensor, runs: SequenceLayout) -> tuple[int, ...]:
    """Return for each sequence the highest position (tokens,) plus one, 0 for an empty sequence."""
    known = positions.tolist()  # one read of the device for all sequences
    return tuple(
        max(known[begin : begin + length], default=-1) + 1
        for begin, length in zip(runs.begins, runs.lengths, strict=True)
    )


def select_tokens(hidden: Tensor, runs: SequenceLayout, place: int) -> Tensor:
    """Return one state a sequence, (sequences, width): `place` 0 is the first token, -1 the last; zeros if empty."""
    lengths = torch.tensor(runs.lengths, device=hidden.device)  # (sequences,)
    begins = torch.tensor(runs.begins, device=hidden.device)
    rows = begins if place == 0 else begins + lengths + place  # (sequences,)
    if not hidden.shape[0]:
        return hidden.new_zeros(len(runs), hidden.shape[1])
    # (sequences, width); an empty sequence's row may lie outside, so it is clamped
    chosen = hidden.index_select(0, rows.clamp(0, hidden.shape[0] - 1))
    return chosen if 0 not in runs.lengths else chosen * (lengths > 0)[:, None]


def sequence_ids(runs: SequenceLayout, device: torch.device) -> Tensor:
    """Return the sequence index of each token, (tokens,)."""
    lengths = torch.tensor(runs.lengths, device=device)  # (sequences,)
    return torch.repeat_interleave(torch.arange(len(runs), device=device), lengths)


def mean_pool(hidden: Tensor, runs: SequenceLayout) -> Tensor:
    """Return the mean state of each sequence, (sequences, width), zeros for an empty sequence."""
    # float32, since half precision loses the small terms of a long sum
    total = hidden.new_zeros(len(runs), hidden.shape[1], dtype=torch.float32)
    total = total.index_add(0, sequence_ids(runs, hidden.device), hidden.float())  # (sequences, width)
    lengths = torch.tensor(runs.lengths, device=hidden.device).clamp(min=1)  # no division by 0
    return (total / lengths[:, None]).to(hidden.dtype)
