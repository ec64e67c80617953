"""What a model is trained for: the sum of losses over a ragged batch, and how many losses that are.

An objective is a module around the model, so that whatever wraps modules (data parallelism, sharding, compilation)
wraps the whole of what is computed. It reads examples as `data` prepares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InvalidInput, UnsupportedOption
from ...heads import head_types
from ...heads import losses as means
from ...heads.heads import first
from ...heads.losses import IGNORED
from ...kernels.ragged import SequenceLayout
from ...modeling.seq2seq import SequenceToSequence
from ...nn.forward_context import SelectedTokens
from . import losses
from .packed_batch import Example, Tokens, column, joined, states, states_at, target_states


@dataclass(frozen=True)
class Part:
    """A pass of a joint objective: what it represents of some examples, or the sum of that times `gradients`."""

    examples: Sequence[Example]
    gradients: Tensor | None = None


class Objective(nn.Module):
    """Base of all objectives.

    Args:
        model: what learns. smoothing: of labels (Szegedy et al., 2016, arXiv:1512.00567).
    """

    splits: ClassVar[bool] = True  # whether the loss of a batch is the sum of its examples' losses
    joint: bool = False  # whether it compares all examples of a step, by `represented` and `compared`
    columns: ClassVar[tuple[str, ...]] = ("input_ids", "labels")  # that every example needs to learn from
    answers: ClassVar[tuple[str, ...]] = ("labels",)  # of these, what a loss needs and scores do not

    def __init__(self, model: Any, smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def told(self, features: Any = None) -> str:
        """What is learned, in a few words; `features` are those of training, where they are known."""
        return "cross-entropy" + (f", labels smoothed by {self.smoothing:g}" if self.smoothing else "")

    def ready(self, example: Example, seed: tuple[int, int, int]) -> Example:
        """An example as it is read this time; `seed` is (seed of the run, epoch, number of the example)."""
        return example

    def size(self, example: Example) -> int:
        """Tokens that are computed."""
        return len(example["input_ids"])

    def collate(self, examples: Sequence[Example]) -> Any:
        """What `forward` takes, before anything is computed."""
        return list(examples)

    def labeled(self, batch: Any) -> bool:
        """Whether a batch has a loss; without one it is scored only."""
        return all(name in example for name in self.answers for example in batch)

    def count(self, batch: Any) -> float:
        """Losses in a batch that has labels: what a mean divides by."""
        return len(batch)

    def compared(self, found: Tensor, labels: Tensor | None) -> Tensor:
        """The sum of losses of all examples of a step, of what `represented` gives: found (examples, ...)."""
        raise NotImplementedError

    def forward(self, batch: Any, predict: bool = False) -> tuple[Tensor, Any]:
        """The sum of losses, and (`predict`) the scores of each example."""
        raise NotImplementedError

    def targets(self, batch: Any) -> list[Any]:
        """What each example's scores are compared with by metrics."""
        return [example["labels"] for example in batch]

    def inputs(self, batch: Any) -> list[Any]:
        """The ids that each example is read as. Raises UnsupportedOption for examples of several texts."""
        if any("input_ids" not in example for example in batch):
            raise UnsupportedOption(
                f"include_for_metrics 'inputs': examples have several texts, {', '.join(batch[0])}; leave it out."
            )
        return [np.asarray(example["input_ids"]) for example in batch]


class TextLabels(Objective):
    """A label, several labels or a number for each text."""

    def count(self, batch: Sequence[Example]) -> float:
        return sum(self._each(example) for example in batch)

    def _each(self, example: Example) -> int:
        label = np.asarray(example["labels"])
        return int(label != IGNORED) if self._kind(label) == "single_label_classification" else label.size

    def told(self, features: Any = None) -> str:
        kind = self.model.config.problem_type
        if kind is None and getattr(features, "numbers", {}).get("labels") is not None:
            kind = self._kind(features.numbers["labels"][0])
        several = {"regression": "squared error", "multi_label_classification": "binary cross-entropy of each label"}
        return several.get(kind or "", super().told(features))

    def _kind(self, label: np.ndarray) -> str:
        told = self.model.config.problem_type
        return told or means.guess_problem_type(torch.from_numpy(np.atleast_1d(label)), self.model.config.num_labels)

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        hidden, context = self._states(batch)
        scores = self.model.head(hidden, context)
        loss = self._loss(scores, batch) if self.labeled(batch) else scores.new_zeros(())
        return loss, list(scores.detach().float().cpu().numpy()) if predict else None

    def _loss(self, scores: Tensor, batch: Sequence[Example]) -> Tensor:
        labels = column(batch, "labels", scores.device)
        kind = self._kind(np.asarray(batch[0]["labels"]))
        if kind == "regression":
            return losses.regression(scores, labels)
        if kind == "single_label_classification":
            return losses.cross_entropy(scores, labels.long().flatten(), self.smoothing)
        return losses.several(scores, labels)

    def _states(self, batch: Sequence[Example]) -> tuple[Tensor, Any]:
        tokens = Tokens.of(batch, self.device)
        if not isinstance(self.model, SequenceToSequence):
            if getattr(self.model.head, "pool", None) is first and 0 not in tokens.runs.lengths:
                return states_at(self.model, tokens, SelectedTokens.firsts(tokens.runs, self.device))
            return states(self.model, tokens)
        ids = self.model.architecture.shift_right(tokens.ids, tokens.runs, self.model.config)
        return target_states(self.model, tokens, Tokens(ids, tokens.runs))


class Words(Objective):
    """A label for each token, or the word that stood where one is hidden; only labeled tokens are scored."""

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int((np.asarray(example["labels"]) != IGNORED).sum()) for example in batch)

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        tokens = Tokens.of(batch, self.device)
        if not predict and self.labeled(batch):
            labels = joined(batch, "labels", self.device)
            selected = labeled_tokens(batch, self.device)
            hidden, _ = states_at(self.model, tokens, selected)
            return word_losses(self.model, hidden, labels.index_select(0, selected.rows), self.smoothing), None
        hidden, context = states(self.model, tokens)
        loss = hidden.new_zeros(())
        if self.labeled(batch):
            loss = word_losses(self.model, hidden, joined(batch, "labels", self.device), self.smoothing)
        return loss, by_text(self.model.head(hidden, context), tokens) if predict else None


class NextWords(Objective):
    """The word after each word of a text."""

    columns, answers = ("input_ids",), ()

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int((self._labels(example)[1:] != IGNORED).sum()) for example in batch)

    def _labels(self, example: Example) -> np.ndarray:
        return np.asarray(example["labels"] if "labels" in example else example["input_ids"])

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [self._labels(example) for example in batch]

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        tokens = Tokens.of(batch, self.device)
        hidden, context = states(self.model, tokens)
        loss = word_losses(self.model, hidden, following(map(self._labels, batch), self.device), self.smoothing)
        return loss, by_text(self.model.head(hidden, context), tokens) if predict else None


class Targets(Objective):
    """The words of a target, given its source and the words before."""

    def ready(self, example: Example, seed: tuple[int, int, int]) -> Example:
        """Raises InvalidInput for an example without a target, whose words are what is scored."""
        if "labels" not in example:
            raise InvalidInput(
                "An example has no labels: the words of a target are scored given those before. Give targets, or "
                "predict_with_generate=True, which writes them."
            )
        return example

    def size(self, example: Example) -> int:
        return len(example["input_ids"]) + len(example["labels"])

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int((np.asarray(example["labels"]) != IGNORED).sum()) for example in batch)

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        model = self.model
        source, target = (Tokens.of(batch, self.device, name) for name in ("input_ids", "labels"))
        said = target.ids.masked_fill(target.ids == IGNORED, _padding(model.config))
        read = Tokens(model.architecture.shift_right(said, target.runs, model.config), target.runs)
        hidden, context = target_states(model, source, read)
        loss = word_losses(model, hidden, target.ids, self.smoothing)
        return loss, by_text(model.head(hidden, context), target) if predict else None


class Spans(Objective):
    """Where an answer begins and ends."""

    columns = ("input_ids", "start_positions", "end_positions")
    answers = ("start_positions", "end_positions")

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int(example[name]) < len(example["input_ids"]) for name in self.answers for example in batch) / 2

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        tokens = Tokens.of(batch, self.device)
        scores = self.model.head(*states(self.model, tokens))
        loss = scores.new_zeros(())
        if self.labeled(batch):
            starts, ends = (column(batch, name, scores.device).long() for name in self.answers)
            loss = losses.spans(scores, tokens.runs, starts, ends)
        return loss, [(each[:, 0], each[:, 1]) for each in by_text(scores, tokens)] if predict else None

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [(int(example["start_positions"]), int(example["end_positions"])) for example in batch]


OBJECTIVES: Mapping[Any, type[Objective]] = {  # what a kind makes of its head's numbers -> what it is trained for
    head_types.text_labels: TextLabels,
    head_types.words: Words,
    head_types.next_words: NextWords,
    head_types.spans: Spans,
}


def objective_of(model: Any, smoothing: float = 0.0) -> Objective | None:
    """What a model of its kind is trained for; None for kinds, and modules, that only their own `forward` knows."""
    if not hasattr(model, "head_type"):
        return None
    if isinstance(model, SequenceToSequence) and model.head_type.auto == "AutoModelForSeq2SeqLM":
        return Targets(model, smoothing)
    found = OBJECTIVES.get(model.head_type.postprocess)
    alone = not isinstance(model, SequenceToSequence) or found is TextLabels
    return found(model, smoothing) if found is not None and alone else None


def labeled_tokens(batch: Sequence[Example], device: torch.device) -> SelectedTokens:
    """The tokens that have a label."""
    each = [np.asarray(example["labels"]) != IGNORED for example in batch]
    rows = torch.from_numpy(np.concatenate(each).nonzero()[0]).to(device)
    return SelectedTokens(rows, SequenceLayout.packed(tuple(int(marks.sum()) for marks in each)))


def word_losses(model: Any, hidden: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Sum of cross-entropies of the labeled words; the others are not scored."""
    rows = (labels != IGNORED).nonzero()[:, 0]
    if len(rows) < len(labels):
        hidden, labels = hidden.index_select(0, rows), labels.index_select(0, rows)
    parameters = tuple(model.head.parameters())
    classes = getattr(model.head, "out", None)
    width = model.vocabulary if classes is None else classes.out_features
    return losses.scored(model.score, hidden, labels, parameters, smoothing, width)


def following(labels: Any, device: torch.device) -> Tensor:
    """(tokens,): the label of the token after each, -100 after a text's last."""
    moved = [np.append(text[1:], IGNORED) for text in labels if len(text)]
    return torch.from_numpy(np.concatenate(moved).astype(np.int64, copy=False)).to(device)


def by_text(scores: Tensor, tokens: Tokens) -> list[Any]:
    """Scores (tokens, ...) as an array a text."""
    return [part.numpy() for part in scores.detach().float().cpu().split(tokens.runs.lengths)]


def _padding(config: Any) -> int:
    if config.pad_token_id is None:
        raise UnsupportedOption(
            "The config names no pad_token_id, which stands for left-out labels in a decoder's input."
        )
    return config.pad_token_id
