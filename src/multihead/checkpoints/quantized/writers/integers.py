"""Rounding of weights to integers with a scale, and a zero or none, for each group of inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import InvalidInput
from ..stored_codes import StoredCodes, plain

SHRINKS = tuple(1 - 0.02 * step for step in range(16))  # parts of the largest magnitude that may bound a group
SLICE = 2**22  # weights that are rounded at once


@dataclass(frozen=True)
class IntegerGrid:
    """Integers that begin at 0: weight = (code - zero) * scale.

    Args:
        bits: of a code. group: inputs that share a scale; -1 for all of a row.
        symmetric: the zero is the middle code. dtype: of stored scales, to which they are rounded before the codes are.
        lowest: the lowest zero that a file can hold. search: bounds of groups are those with the least squared error.
    """

    bits: int
    group: int
    symmetric: bool
    dtype: torch.dtype
    lowest: int = 0
    search: bool = True

    @property
    def most(self) -> int:
        return int(2**self.bits - 1)

    def size(self, inputs: int) -> int:
        """Return the inputs of a group."""
        return inputs if self.group == -1 else self.group

    def fit(self, groups: Tensor, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scales and zeros, (..., 1) each, of groups (..., inputs of a group), float32.

        Args:
            importance: of the squared error of each input, in the shape of the groups of a row; None for the same.

        Raises:
            InvalidInput: weights that are not finite, or too large for the scales.
        """
        low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
        best = self._bounded(low, high)
        if not best[0].isfinite().all():
            raise InvalidInput(
                f"A weight is not finite, or too large for scales in {self.dtype}. Check the checkpoint."
            )
        if not self.search or self.bits > 4:
            return best
        error = self._error(groups, importance, *best)
        for shrink in SHRINKS[1:]:
            tried = self._bounded(low * shrink, high * shrink)
            other = self._error(groups, importance, *tried)
            better = other < error
            best = (torch.where(better, tried[0], best[0]), torch.where(better, tried[1], best[1]))
            error = torch.minimum(error, other)
        return best

    def _bounded(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        if self.symmetric:
            scales = torch.maximum(-low, high) / (self.most / 2)
            zeros = torch.full_like(scales, 2 ** (self.bits - 1))
        else:
            scales = torch.maximum((high - low) / self.most, high / (self.most - self.lowest))
            zeros = torch.zeros_like(scales)
        tiny = torch.finfo(self.dtype).tiny
        scales = scales.clamp(min=tiny).masked_fill(low == high, 1.0).to(self.dtype).float()
        if not self.symmetric:
            zeros = (-low / scales).round().clamp(self.lowest, self.most)
        return scales, zeros

    def _error(self, groups: Tensor, importance: Tensor | None, scales: Tensor, zeros: Tensor) -> Tensor:
        squares = (self.numbers(self.codes(groups, scales, zeros), scales, zeros) - groups).square_()
        return (squares if importance is None else squares.mul_(importance)).sum(-1, keepdim=True)

    def codes(self, groups: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        """Return the nearest codes, float32."""
        return (groups / scales + zeros).round_().clamp_(0, self.most)

    def numbers(self, codes: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return (codes - zeros) * scales

    def round(self, weight: Tensor, importance: Tensor | None = None, *, quick: bool = False) -> StoredCodes:
        """Round a weight (outputs, inputs) to the nearest codes, some rows at a time.

        Args:
            importance: of the squared error of each input, (inputs,). quick: groups end at their largest weight.
        """
        if quick and self.search:
            return replace(self, search=False).round(weight)
        size = self.size(weight.shape[1])
        if importance is not None:
            importance = F.pad(importance, (0, -len(importance) % size)).view(-1, size)  # (groups, size)
        codes, scales, zeros = [], [], []
        for rows in weight.split(max(1, SLICE // max(1, weight.shape[1]))):
            groups = F.pad(rows, (0, -rows.shape[1] % size)).unflatten(1, (-1, size))  # (rows, groups, size)
            fitted = self.fit(groups, importance)
            codes.append(self.codes(groups, *fitted).to(torch.uint8).flatten(1)[:, : weight.shape[1]])
            scales.append(fitted[0].squeeze(-1))
            zeros.append(fitted[1].squeeze(-1))
        return self.stored(torch.cat(codes), torch.cat(scales), torch.cat(zeros))

    def stored(self, codes: Tensor, scales: Tensor, zeros: Tensor, index: Tensor | None = None) -> StoredCodes:
        """Return codes (outputs, inputs) with scales and zeros (outputs, groups), as files hold them."""
        size = self.size(codes.shape[1])
        return StoredCodes(
            plain(codes.to(torch.uint8)),
            scales.to(self.dtype),
            zeros.to(torch.int16),
            size=size,
            index=index,
            bits=self.bits,
        )
