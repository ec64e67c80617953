"""What all pipelines share: a model, a tokenizer, and batches by token budget without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, TextTooLong
from ..model import PreTrainedModel
from ..tokenizers.tokenizer import Tokenizer

TOKENS = 4096  # tokens of one batch: enough to keep matrix units busy, little memory


class Task:
    """A pipeline: called with texts, it answers in their order.

    Args:
        model: with the head that the task needs. name: the task's.
    """

    auto: ClassVar[str] = "AutoModel"

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str) -> None:
        self.model, self.tokenizer, self.task = model, tokenizer, name

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def precision(self) -> str:
        """The dtype that the model computes in, such as "bfloat16"."""
        return str(self.model.dtype).removeprefix("torch.")

    def __repr__(self) -> str:
        return f"<{self.task} with {type(self.model).__name__} from {self.model.name_or_path}, {self.precision}>"


def texts_of(inputs: Any, what: str = "text") -> tuple[list[str], bool]:
    """The inputs as a list of strings, and whether it was a single one.

    Raises:
        InvalidInput: something else than a string or strings.
    """
    single = isinstance(inputs, str)
    texts: list[Any] = list(inputs) if isinstance(inputs, Iterable) and not single else [inputs]
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"Input {number} must be a {what} (a string), not {type(text).__name__}.")
    return texts, single


def batches(lengths: Sequence[int], budget: int = TOKENS) -> Iterator[list[int]]:
    """Numbers of texts for each batch: alike lengths together, longest first, at most `budget` tokens a batch."""
    batch: list[int] = []
    total = 0
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and total + lengths[number] > budget:
            yield batch
            batch, total = [], 0
        batch.append(number)
        total += lengths[number]
    if batch:
        yield batch


def check_room(lengths: Sequence[int], limit: int | None) -> None:
    """Raises TextTooLong for a text of more tokens than the model has positions."""
    for number, length in enumerate(lengths):
        if limit is not None and length > limit:
            raise TextTooLong(
                f"Input {number} has {length} tokens, and this model takes at most {limit}. Shorten it, split it, or "
                "pass truncation=True to read its beginning only."
            )
