"""Batches of texts by token budget, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .errors import InvalidInput, TextTooLong

TOKENS = 4096  # of a batch on a CPU: enough to keep matrix units busy, little memory
TOKENS_ON_GPU = 32_768


def texts_of(inputs: Any, what: str = "text") -> tuple[list[str], bool]:
    """Return the inputs as a list of strings, and whether the input was a single string.

    Raises:
        InvalidInput: anything but a string or strings.
    """
    single = isinstance(inputs, str)
    texts: list[Any] = list(inputs) if isinstance(inputs, Iterable) and not single else [inputs]
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"Input {number} must be a {what} (a string), not {type(text).__name__}.")
    return texts, single


def batches(lengths: Sequence[int], budget: int = TOKENS, most: int | None = None) -> Iterator[list[int]]:
    """Yield the numbers of the texts of each batch: similar lengths together, longest first.

    Args:
        budget: tokens of a batch at most, unless one text alone has more. most: texts of a batch, None for any number.
    """
    batch: list[int] = []
    total = 0
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (total + lengths[number] > budget or len(batch) == most):
            yield batch
            batch, total = [], 0
        batch.append(number)
        total += lengths[number]
    if batch:
        yield batch


def budget(device: Any) -> int:
    """Return the tokens of a batch on a device (torch.device)."""
    return TOKENS if device.type == "cpu" else TOKENS_ON_GPU


def check_room(lengths: Sequence[int], limit: int | None) -> None:
    """Raise TextTooLong for a text with more tokens than the model has positions."""
    for number, length in enumerate(lengths):
        if limit is not None and length > limit:
            raise TextTooLong(
                f"Input {number} has {length} tokens, and this model takes at most {limit}. Shorten it, split it, or "
                "pass truncation=True to read its beginning only."
            )
