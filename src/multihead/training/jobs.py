"""What each task trains: how rows become examples, which model reads them, what is learned and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInput, UnsupportedOption
from .collators import Collator, padded
from .evaluation import Seen
from .features import Features
from .objectives import Objective, Padded, objective_of
from .passes import Example


class Job:
    """Training on examples that are tokenized already, for what the model's kind is made for.

    Args:
        collator: makes batches instead of packing examples end to end. loss: computes the loss instead of the model.
    """

    scored = False  # whether metrics need scores, not only losses

    def __init__(
        self, model: Any, tokenizer: Any = None, *, collator: Any = None, loss: Callable[..., Any] | None = None,
        smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.collator, self.loss, self.smoothing = model, tokenizer, collator, loss, smoothing

    @property
    def padded(self) -> bool:
        """Whether batches are a caller's own, through the model's `forward`."""
        own = self.collator is not None and not isinstance(self.collator, Collator)
        return own or self.loss is not None or objective_of(self.model) is None

    def objective(self) -> Objective:
        if self.padded:
            return Padded(self.model, self.collator or padded(self.tokenizer, self.model), self.loss)
        found = objective_of(self.model, self.smoothing)
        assert found is not None
        return found if self.collator is None else self.collator.dressed(found)

    def features(self, source: Any, *, training: bool) -> Any:
        """Examples of a source."""
        if self.padded and self.collator is not None:
            return source
        return Features.of(source, source_target=self.model.config.is_encoder_decoder)

    def sizes(self, features: Any) -> np.ndarray:
        """Tokens of each example."""
        if isinstance(features, Features):
            return features.lengths
        return np.array([_size(example) for example in features], dtype=np.int64)

    def where(self, features: Any, number: int) -> str:
        return features.where(number) if isinstance(features, Features) else f"example {number}"

    def is_table(self, source: Mapping[str, Any]) -> bool:
        """Whether a dict is one data set of columns, not several data sets."""
        return all(isinstance(value, (list, np.ndarray)) and not _rows(value) for value in source.values())

    def check(self, features: Any) -> None:
        """Raises InvalidInput for examples that the model cannot learn from."""
        if not isinstance(features, Features):
            return
        config = self.model.config
        sizes = {"input_ids": config.vocab_size} if hasattr(config, "vocab_size") else {}
        for column, size in sizes.items():
            features.check_vocabulary(size, [column])
        needed = () if self.padded else self.objective().columns
        lacking = [name for name in needed if name not in features.columns]
        if lacking:
            raise InvalidInput(
                f"Examples need {', '.join(lacking)}; they have {', '.join(features.columns)}. Give rows together with a "
                "task, or examples with these columns."
            )

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        return {}

    @property
    def reloads(self) -> bool:
        """Whether the model's own files are all that its weights are restored from."""
        return not getattr(self.model, "active_adapters", None)

    def load(self, folder: Path) -> Any:
        """The model that `save` wrote."""
        return type(self.model).from_pretrained(folder, dtype=self.model.dtype)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)


def job_of(
    model: Any, task: str | None, options: Mapping[str, Any], tokenizer: Any, data: Any, **more: Any
) -> Job:
    """The job of a task, or of a model's own kind."""
    if task is None:
        if options:
            raise UnsupportedOption(f"options {', '.join(options)} belong to a task; name it: task=...")
        return Job(model, tokenizer, **more)
    raise NotImplementedError


def _size(example: Any) -> int:
    ids = example.get("input_ids") if isinstance(example, Mapping) else None
    return 1 if ids is None else len(ids)


def _rows(value: Sequence[Any]) -> bool:
    return bool(len(value)) and isinstance(value[0], Mapping)


__all__ = ["Example", "Job", "job_of"]
