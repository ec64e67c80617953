"""Padded batches of examples, under the names that users of the reference know.

Given to a Trainer, these stand for what they mean (which words are hidden, say), and nothing is padded. Called, they
give padded tensors, for a loop of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from ..losses import IGNORED
from .objectives import Objective
from .passes import Example

RAGGED = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "special_tokens_mask",
    "word_ids",
    "decoder_input_ids",
)


class Collator:
    """Pads examples to the longest of a batch.

    Args:
        tokenizer: whose padding token, padding side and type of padding are used.
        padding: True or "longest". max_length: with padding="max_length". pad_to_multiple_of: of the length.
        label_pad_token_id: of labels a token.
    """

    def __init__(
        self, tokenizer: Any = None, padding: bool | str = True, max_length: int | None = None,
        pad_to_multiple_of: int | None = None, return_tensors: str = "pt", label_pad_token_id: int = IGNORED,
    ) -> None:  # fmt: skip
        if return_tensors != "pt":
            raise UnsupportedOption(f"return_tensors {return_tensors!r}: batches are torch's tensors here, 'pt'.")
        self.tokenizer, self.padding, self.max_length = tokenizer, padding, max_length
        self.pad_to_multiple_of, self.label_pad_token_id = pad_to_multiple_of, label_pad_token_id

    def __call__(self, features: Sequence[Example], return_tensors: str = "pt") -> dict[str, Any]:
        """Tensors (examples, longest) of every column that all examples have, with their attention mask."""
        if not features:
            raise InvalidInput("A batch needs an example.")
        names = [name for name in features[0] if all(name in example for example in features)]
        batch: dict[str, Any] = {}
        for name in names:
            values = [np.asarray(example[name]) for example in features]
            if values[0].dtype.kind not in "iufb":
                continue
            renamed = "labels" if name in ("label", "label_ids") else name
            batch[renamed] = self._column(renamed, values)
        if "input_ids" in batch and "attention_mask" not in batch:
            lengths = [len(example["input_ids"]) for example in features]
            batch["attention_mask"] = self._padded([np.ones(n, dtype=np.int64) for n in lengths], 0)
        return batch

    def dressed(self, objective: Objective) -> Objective:
        """The objective with what this collator means."""
        return objective

    def _column(self, name: str, values: list[np.ndarray]) -> Tensor:
        if values[0].ndim == 1 and (name in RAGGED or len({len(v) for v in values}) > 1 or name == "labels"):
            fill = {"input_ids": self._pad, "decoder_input_ids": self._pad, "labels": self.label_pad_token_id}
            fill |= {"token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0), "special_tokens_mask": 1}
            return self._padded(values, fill.get(name, 0))
        stacked = torch.from_numpy(np.stack(values))
        return stacked if stacked.is_floating_point() else stacked.long()

    @property
    def _pad(self) -> int:
        found = getattr(self.tokenizer, "pad_token_id", None)
        return 0 if found is None else int(found)

    def _padded(self, values: list[np.ndarray], fill: int) -> Tensor:
        longest = max(len(v) for v in values)
        if self.padding == "max_length" and self.max_length is not None:
            longest = max(longest, self.max_length)
        if self.pad_to_multiple_of:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        floats = values[0].dtype.kind == "f"
        out = np.full((len(values), longest), fill, dtype=np.float32 if floats else np.int64)
        left = getattr(self.tokenizer, "padding_side", "right") == "left"
        for row, value in zip(out, values, strict=True):
            place = slice(longest - len(value), longest) if left else slice(0, len(value))
            row[place] = value
        return torch.from_numpy(out)


class DataCollatorWithPadding(Collator):
    """Pads what the tokenizer gave."""


class DataCollatorForTokenClassification(Collator):
    """Pads labels a token too, with -100."""


class DataCollatorForSeq2Seq(Collator):
    """Pads sources and targets; a model, where given, makes the decoder's inputs by itself."""

    def __init__(self, tokenizer: Any = None, model: Any = None, **options: Any) -> None:
        super().__init__(tokenizer, **options)
        self.model = model


class DefaultDataCollator(Collator):
    """Stacks examples of one length."""

    def __init__(self, return_tensors: str = "pt") -> None:
        super().__init__(None, return_tensors=return_tensors)


def default_data_collator(features: Sequence[Example], return_tensors: str = "pt") -> dict[str, Any]:
    """Stacks examples of one length."""
    return DefaultDataCollator(return_tensors)(features)


def padded(tokenizer: Any, model: Any) -> Collator:
    """What pads for a model whose batches must be padded."""
    return Collator(tokenizer)
