"""What a decoder reads in training: what it shall say, one token later."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..config import Config
from ..errors import InvalidInput
from ..kernels.ragged import Runs

Shift = Callable[[Tensor, Runs, Config], Tensor]  # ids (tokens,) -> ids (tokens,)


def after_start(ids: Tensor, runs: Runs, config: Config) -> Tensor:
    """Each text one place to the right, after `decoder_start_token_id`.

    Raises:
        InvalidInput: the config names no such token.
    """
    if config.decoder_start_token_id is None:
        raise InvalidInput("The config names no decoder_start_token_id to begin a target with.")
    return begun_with(ids, runs, config.decoder_start_token_id)


def begun_with(ids: Tensor, runs: Runs, first: int) -> Tensor:
    """Each text one place to the right, after the token `first`."""
    return _moved(ids, runs, [first] * len(runs))


def after_own_last(ids: Tensor, runs: Runs, config: Config) -> Tensor:
    """Each text one place to the right, after its own last token that is no padding: its language (mBART)."""
    known = ids.tolist()
    texts = [known[begin : begin + length] for begin, length in zip(runs.begins, runs.lengths, strict=True)]
    padding = config.pad_token_id
    return _moved(ids, runs, [next((t for t in reversed(text) if t != padding), padding or 0) for text in texts])


def _moved(ids: Tensor, runs: Runs, firsts: list[int]) -> Tensor:
    moved = ids.roll(1)
    places = [(begin, first) for begin, first, length in zip(runs.begins, firsts, runs.lengths, strict=True) if length]
    if places:
        moved[[begin for begin, _ in places]] = ids.new_tensor([first for _, first in places])
    return moved
