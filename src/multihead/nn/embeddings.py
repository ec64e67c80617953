"""Embeddings: token ids to vectors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput, TextTooLong
from ..kernels.hardware import kept_on, recording
from .experts import parts_without_experts
from .forward_context import ForwardContext
from .ragged import sequence_ids
from .weights import Dropout, Embedding, round_like


class LearnedPositions(nn.Module):
    """Learned position embeddings.

    Args:
        offset: rows before the first position's (RoBERTa and OPT have 2).
        padding: an id that takes no position of a text; the row before the first one's is its own (RoBERTa).
        by_row: `position_ids` of a caller name rows of the table, as in all families with a `padding`.
        table: of `count` rows, where it is no plain one (Reformer).
    """

    def __init__(
        self, count: int, width: int, *, offset: int = 0, padding: int | None = None, by_row: bool = False,
        table: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.table: Any = Embedding(count, width) if table is None else table
        self.offset, self.padding = offset, padding
        self.by_row = by_row or padding is not None

    @property
    def count(self) -> int:
        """Number of learned positions, from 0."""
        return self.table.num_embeddings - self.offset

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions (tokens,) to (tokens, width). Raises TextTooLong past the last learned position."""
        rows = positions + self.offset  # (tokens,)
        if recording(positions):  # who recorded the pass answers for them
            return self.table(rows)
        # One read of the device for both bounds. CUDA reports a wrong row late, and then refuses all work.
        low, high = (int(bound) for bound in positions.aminmax()) if positions.numel() else (0, -self.offset)
        if high >= self.count:
            raise TextTooLong(
                f"A text reaches position {high}, and this model has learned {self.count}, "
                "from 0. Truncate it (truncation=True) or split it into windows (stride=...)."
            )
        if low < (-self.offset if self.by_row else 0):
            raise InvalidInput(f"Position {low} is below the first, {-self.offset if self.by_row else 0}.")
        return self.table(rows)


def learned_positions(module: nn.Module) -> int | None:
    """Return the smallest number of positions that a table in the module has learned; None without such a table."""
    found = (part.count for part in parts_without_experts(module) if isinstance(part, LearnedPositions))
    return min(found, default=None)


class SinusoidalPositions(nn.Module):
    """Sines in the first half of the channels, cosines in the second (Vaswani et al., 2017, arXiv:1706.03762)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # (half the width rounded up,)
        exponents = 2 * torch.arange((width + 1) // 2, dtype=torch.float64, device="cpu") / width
        self.width, self.frequencies = width, 10_000.0**-exponents

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions (tokens,) to (tokens, width), float32."""
        # (tokens, half the width). In float64: an error of a frequency grows with the position.
        angles = positions[:, None] * kept_on(positions.device, self, "frequencies")
        return torch.cat([angles.sin(), angles.cos()[:, : self.width // 2]], dim=-1).float()  # (tokens, width)


def sinusoids(count: int, width: int) -> Tensor:
    """Return the sinusoids of the first `count` positions, (count, width)."""
    return SinusoidalPositions(width)(torch.arange(count, device="cpu"))


class Tensor2TensorPositions(nn.Module):
    """Sinusoids whose last frequency is exactly 1 / 10000, as in Tensor2Tensor (M2M-100).

    Args:
        padding: an id that takes no position of a text, and has no vector of one; the first position is the next.
        offset: number of the first position, where no id is such.
    """

    def __init__(self, width: int, *, padding: int | None = None, offset: int = 1) -> None:
        super().__init__()
        self.padding, self.offset = padding, offset if padding is None else padding + 1
        steps = torch.arange(width // 2, device="cpu").float()  # (width / 2,)
        self.width = width
        self.frequencies = torch.exp(steps * -(math.log(10_000) / max(width // 2 - 1, 1)))

    def forward(self, positions: Tensor) -> Tensor:
        """Map positions (tokens,) to (tokens, width), float32."""
        # (tokens, width / 2)
        angles = (positions + self.offset).float()[:, None] * kept_on(positions.device, self, "frequencies")
        # (tokens, width); an odd width ends with a zero
        waves = nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, self.width % 2))
        return waves * (positions >= 0)[:, None]  # padding has position -1


class Embeddings(nn.Module):
    """Sum of token, position and segment embeddings, then norm, dropout and projection.

    Args:
        project: of the sum. widen: of the word vectors, before anything is added (OPT).
        scale: of the word vectors only. rounded: it is rounded to the weights' precision (T5Gemma).
        rescales: vectors that a caller gives are scaled too.
        typed: whether token types may be given; where they have no vectors they change nothing (DeBERTa).
        worded: a token's type is a word of the vocabulary, whose vector is added where types are given (GPT-2).
    """

    def __init__(
        self,
        token: nn.Embedding,
        *,
        position: nn.Module | None = None,
        segment: nn.Embedding | None = None,
        norm: nn.Module | None = None,
        project: nn.Module | None = None,
        widen: nn.Module | None = None,
        scale: float = 1.0,
        rounded: bool = False,
        rescales: bool = False,
        dropout: float = 0.0,
        typed: bool | None = None,
        worded: bool = False,
    ) -> None:
        super().__init__()
        self._typed, self.worded = (segment is not None or worded) if typed is None else typed, worded
        self.token, self.position, self.segment = token, position, segment
        self.norm, self.project = norm or nn.Identity(), project or nn.Identity()
        self.widen = widen or nn.Identity()
        self.scale, self.rounded, self.rescales = scale, rounded, rescales
        self.dropout = Dropout(dropout)

    @property
    def typed(self) -> bool:
        """True if the model has token types."""
        return self._typed

    def look_up(self, tokens: Tensor) -> Tensor:
        """Look up token embeddings (tokens, width) of ids (tokens,). Raises InvalidInput for an id out of range."""
        check_ids(tokens, self.token.num_embeddings, "input id", "vocabulary")
        return self._scaled(self.token(tokens))

    def scale_vectors(self, vectors: Tensor) -> Tensor:
        """Scale embeddings (tokens, width) that a caller passes, in the precision of the table."""
        table = getattr(self.token, "weight", None)
        if isinstance(table, Tensor) and table.is_floating_point():
            vectors = vectors.to(table.dtype)
        return self._scaled(vectors) if self.rescales else vectors

    @property
    def factor(self) -> float:
        """Scale of token embeddings."""
        return round_like(self.token.weight, self.scale) if self.rounded else self.scale

    def _scaled(self, vectors: Tensor) -> Tensor:
        return vectors if self.scale == 1.0 else vectors * self.factor

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Add positions and segments to token embeddings: (tokens, embedding width) to (tokens, width)."""
        x = self.widen(words)  # (tokens, width of the sum)
        if self.segment is not None:
            # (tokens,)
            segments = torch.zeros_like(context.positions) if context.segments is None else context.segments
            check_ids(segments, self.segment.num_embeddings, "token_type_id", "segment table")
            x = x + self.segment(segments)
        elif self.worded and context.segments is not None:
            x = x + self.widen(self.look_up(context.segments))
        if self.position is not None:
            x = x + self.position(places_in(self.position, context)).to(
                x.dtype
            )  # some positions are float32 in every model
        return self.project(self.dropout(self.norm(x)))  # (tokens, width)


def places_in(position: nn.Module, context: ForwardContext) -> Tensor:
    """Return each token's position for a module of positions, (tokens,).

    Rows that a caller gave are brought to positions, of which those before the first are below 0.
    """
    if context.custom_positions and getattr(position, "by_row", False):
        return context.positions - int(position.offset)  # type: ignore[arg-type]
    padding: Any = getattr(position, "padding", None)
    return context.positions if padding is None else count_positions(context, padding)


def count_positions(context: ForwardContext, padding: int) -> Tensor:
    """Return each token's position, (tokens,), among those of its sequence that are not `padding`; padding is at -1.

    Positions that a caller gave, or those of vectors, are as they are.
    """
    if context.custom_positions or context.ids is None:
        return context.positions
    pads = context.ids == padding  # (tokens,)
    # A recorded pass may not read from the device.
    if not recording(pads) and not bool(pads.any()):
        return context.positions
    if context.runs.longest <= 1:
        return context.positions.masked_fill(pads, -1)
    seen = nn.functional.pad(pads.cumsum(0), (1, 0))  # before each token of the run
    # First row of each token's sequence, (tokens,).
    begins = torch.tensor(context.runs.begins, device=pads.device)[sequence_ids(context.runs, pads.device)]
    return (context.positions - (seen[:-1] - seen[begins])).masked_fill(pads, -1)


class TrigramEmbeddings(Embeddings):
    """Token embeddings concatenated with those of both neighbours, zero past the sequence's ends (MobileBERT)."""

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        count = words.shape[0]
        ends = [
            begin + length for begin, length in zip(context.runs.begins, context.runs.lengths, strict=True) if length
        ]
        begins = [begin for begin, length in zip(context.runs.begins, context.runs.lengths, strict=True) if length]
        # (tokens + 1, embedding width) each
        after, before = (words.new_zeros(count + 1, words.shape[1]) for _ in range(2))
        after[: count - 1], before[1:count] = words[1:], words[:-1]
        after[[end - 1 for end in ends]], before[begins] = 0, 0  # no neighbour from another sequence
        # (tokens, 3 embedding width)
        return super().forward(torch.cat([after[:count], words, before[:count]], -1), context)


def check_ids(ids: Tensor, count: int, what: str, where: str) -> None:
    """Raise InvalidInput when an id is no row of a table with `count` rows."""
    if not ids.numel() or recording(ids):
        return
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= count:
        raise InvalidInput(f"The {what} {low if low < 0 else high} is outside the model's {where} of {count} rows.")
