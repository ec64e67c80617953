"""What all pipelines share: a model, a tokenizer, and how texts come in."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import torch

from .. import auto
from ..model import PreTrainedModel
from ..texts import batches, check_room, texts_of
from ..tokenizers.tokenizer import Tokenizer

__all__ = ["Task", "batches", "check_room", "texts_of"]


class Task:
    """A pipeline: called with texts, it answers in their order.

    Args:
        model: with the head that the task needs. name: the task's.
    """

    auto: ClassVar[str] = "AutoModel"

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, name: str) -> None:
        self.model, self.tokenizer, self.task = model, tokenizer, name

    @classmethod
    def load(cls, name: str | os.PathLike[str], **options: Any) -> Any:
        """The model of a name, by the task's Auto class."""
        return getattr(auto, cls.auto).from_pretrained(name, **options)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def precision(self) -> str:
        """The dtype that the model computes in, such as "bfloat16"."""
        return str(self.model.dtype).removeprefix("torch.")

    def __repr__(self) -> str:
        return f"<{self.task} with {type(self.model).__name__} from {self.model.name_or_path}, {self.precision}>"
