"""Builds decoder_input_ids by shifting labels one position right within each sequence."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..config import Config
from ..errors import InvalidInput
from ..kernels.ragged import SequenceLayout

ShiftRight = Callable[[Tensor, SequenceLayout, Config], Tensor]  # ids (tokens,) -> ids (tokens,)


def after_start(ids: Tensor, runs: SequenceLayout, config: Config) -> Tensor:
    """Shift each sequence right, behind `decoder_start_token_id`.

    Raises:
        InvalidInput: the config names no such token.
    """
    if config.decoder_start_token_id is None:
        raise InvalidInput("The config names no decoder_start_token_id to begin a target with.")
    return after_token(ids, runs, config.decoder_start_token_id)


def after_token(ids: Tensor, runs: SequenceLayout, first: int) -> Tensor:
    """Shift each sequence right, behind the token `first`."""
    return _shift(ids, runs, [first] * len(runs))


def after_own_last(ids: Tensor, runs: SequenceLayout, config: Config) -> Tensor:
    """Shift each sequence right, behind its own last token that is not padding: its language code (mBART)."""
    known = ids.tolist()
    texts = [known[begin : begin + length] for begin, length in zip(runs.begins, runs.lengths, strict=True)]
    padding = config.pad_token_id
    return _shift(ids, runs, [next((t for t in reversed(text) if t != padding), padding or 0) for text in texts])


def _shift(ids: Tensor, runs: SequenceLayout, firsts: list[int]) -> Tensor:
    shifted = ids.roll(1)
    begins = [(begin, first) for begin, first, length in zip(runs.begins, firsts, runs.lengths, strict=True) if length]
    if begins:
        shifted[[begin for begin, _ in begins]] = ids.new_tensor([first for _, first in begins])
    return shifted
