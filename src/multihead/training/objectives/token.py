"""Training objectives: sum of the losses of a packed batch, and their number.

An objective is a module around the model, so that data parallelism, sharding and compilation wrap model and loss
together. It reads examples as the readers of `training.data` build them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from ...nn.experts import collected_scores
from ...nn.forward_context import SelectedTokens
from ...nn.own_names import own_modules
from ..data.features import Example
from . import losses
from .packed_batch import (
    PackedSequences,
    concat_column,
    decoder_states,
    hidden_states,
    hidden_states_at,
    stack_column,
)


@dataclass(frozen=True)
class JointBatch:
    """A batch of a joint objective.

    Without `gradients` the objective returns representations, with them the sum of representations x gradients.
    """

    examples: Sequence[Example]
    gradients: Tensor | None = None


class Objective(nn.Module):
    """Base of all objectives.

    Args:
        model: the model to train. smoothing: label smoothing (Szegedy et al., 2016, arXiv:1512.00567).

    Class attributes:
        splittable: the loss of a batch is the sum of the losses of its examples.
        joint: the loss compares all examples of a step; `joint_loss` computes it.
        columns: columns that every training example needs. label_columns: those that only the loss needs.
    """

    splittable: ClassVar[bool] = True
    joint: bool = False
    columns: ClassVar[tuple[str, ...]] = ("input_ids", "labels")
    label_columns: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(self, model: Any, smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield (path, module) by our attributes: what shards and averages parameters must see each in one module."""
        for path, module in own_modules(self, prefix, remove_duplicate=remove_duplicate):
            if memo is None or module not in memo:
                if memo is not None and remove_duplicate:
                    memo.add(module)
                yield path, module

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def describe(self, features: Any = None) -> str:
        """Return the name of the loss; `features` are the training examples, if known."""
        return "cross-entropy" + (f", labels smoothed by {self.smoothing:g}" if self.smoothing else "")

    def prepare_example(self, example: Example, seed: tuple[int, int, int]) -> Example:
        """Return an example for one use; `seed` is (seed of the run, epoch, number of the example)."""
        return example

    def size(self, example: Example) -> int:
        """Return the number of tokens that a forward pass computes."""
        return len(example["input_ids"])

    def collate(self, examples: Sequence[Example]) -> Any:
        """Return examples as a batch for `forward`."""
        return list(examples)

    def has_labels(self, batch: Any) -> bool:
        """Return whether a batch has labels, and so a loss."""
        return all(name in example for name in self.label_columns for example in batch)

    def count(self, batch: Any) -> float:
        """Return the number of losses in a labeled batch, the divisor of the mean loss."""
        return len(batch)

    def joint_loss(self, representations: Tensor, labels: Tensor | None) -> Tensor:
        """Return the sum of losses of all examples of a step, from representations (examples, ...)."""
        raise NotImplementedError

    def forward(self, batch: Any, predict: bool = False) -> tuple[Tensor, Any]:
        """Return the sum of losses and, with `predict`, the scores of each example."""
        raise NotImplementedError

    def targets(self, batch: Any) -> list[Any]:
        """Return the reference of each example for metrics."""
        return [example["labels"] for example in batch]

    def inputs(self, batch: Any) -> list[Any]:
        """Return the input ids of each example. Raises UnsupportedOption for examples of several texts."""
        if any("input_ids" not in example for example in batch):
            raise UnsupportedOption(
                f"include_for_metrics 'inputs': examples have several texts, {', '.join(batch[0])}; leave it out."
            )
        return [np.asarray(example["input_ids"]) for example in batch]


class SequenceLabelObjective(Objective):
    """Sequence classification or regression: a label, several labels or a number for each text."""

    def count(self, batch: Sequence[Example]) -> float:
        return sum(self._loss_count(example) for example in batch)

    def _loss_count(self, example: Example) -> int:
        label = np.asarray(example["labels"])
        return int(label != IGNORED) if self._kind(label) == "single_label_classification" else label.size

    def describe(self, features: Any = None) -> str:
        kind = self.model.config.problem_type
        if kind is None and getattr(features, "numbers", {}).get("labels") is not None:
            kind = self._kind(features.numbers["labels"][0])
        names = {"regression": "squared error", "multi_label_classification": "binary cross-entropy of each label"}
        return names.get(kind or "", super().describe(features))

    def _kind(self, label: np.ndarray) -> str:
        kind = self.model.config.problem_type
        return kind or means.guess_problem_type(torch.from_numpy(np.atleast_1d(label)), self.model.config.num_labels)

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        hidden, context = self._states(batch)
        scores = self.model.head(hidden, context)
        loss = self._loss(scores, batch) if self.has_labels(batch) else scores.new_zeros(())
        return loss, list(scores.detach().float().cpu().numpy()) if predict else None

    def _loss(self, scores: Tensor, batch: Sequence[Example]) -> Tensor:
        labels = stack_column(batch, "labels", scores.device)
        kind = self._kind(np.asarray(batch[0]["labels"]))
        if kind == "regression":
            return losses.regression(scores, labels)
        if kind == "single_label_classification":
            return losses.cross_entropy(scores, labels.long().flatten(), self.smoothing)
        return losses.binary_cross_entropy(scores, labels)

    def _states(self, batch: Sequence[Example]) -> tuple[Tensor, Any]:
        tokens = PackedSequences.of(batch, self.device)
        if not isinstance(self.model, SequenceToSequence):
            if getattr(self.model.head, "pool", None) is first and 0 not in tokens.runs.lengths:
                return hidden_states_at(self.model, tokens, SelectedTokens.firsts(tokens.runs, self.device))
            return hidden_states(self.model, tokens)
        ids = self.model.architecture.shift_right(tokens.ids, tokens.runs, self.model.config)
        return decoder_states(self.model, tokens, PackedSequences(ids, tokens.runs))


class TokenLabelObjective(Objective):
    """Token classification and masked language modelling: a label for each token; only labeled tokens are scored."""

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int((np.asarray(example["labels"]) != IGNORED).sum()) for example in batch)

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        tokens = PackedSequences.of(batch, self.device)
        if not predict and self.has_labels(batch):
            labels = concat_column(batch, "labels", self.device)
            selected = labeled_tokens(batch, self.device)
            hidden, _ = hidden_states_at(self.model, tokens, selected)
            return token_loss(self.model, hidden, labels.index_select(0, selected.rows), self.smoothing), None
        hidden, context = hidden_states(self.model, tokens)
        loss = hidden.new_zeros(())
        if self.has_labels(batch):
            loss = token_loss(self.model, hidden, concat_column(batch, "labels", self.device), self.smoothing)
        return loss, split_sequences(self.model.head(hidden, context), tokens) if predict else None


class CausalLMObjective(Objective):
    """Causal language modelling: the next token after each token.

    Where the config shows router logits, the load of experts is balanced over each batch, which is not split then.
    """

    columns, label_columns = ("input_ids",), ()

    @property
    def splittable(self) -> bool:  # type: ignore[override]
        return not balances_experts(self.model.config)

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int((self._labels(example)[1:] != IGNORED).sum()) for example in batch)

    def _labels(self, example: Example) -> np.ndarray:
        return np.asarray(example["labels"] if "labels" in example else example["input_ids"])

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [self._labels(example) for example in batch]

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        tokens = PackedSequences.of(batch, self.device)
        routers: list[Tensor] | None = None if self.splittable else []
        with collected_scores(routers):
            hidden, context = hidden_states(self.model, tokens)
        loss = token_loss(self.model, hidden, next_labels(map(self._labels, batch), self.device), self.smoothing)
        if routers:  # a part of the mean loss, so it counts once for each loss of the sum
            config = self.model.config
            aux = means.load_balance(routers, config.num_experts_per_tok)
            loss = loss + config.router_aux_loss_coef * aux * self.count(batch)
        return loss, split_sequences(self.model.head(hidden, context), tokens) if predict else None


class Seq2SeqObjective(Objective):
    """Sequence to sequence: each token of a target, given the source and the tokens before."""

    def prepare_example(self, example: Example, seed: tuple[int, int, int]) -> Example:
        """Return the example. Raises InvalidInput for an example without a target."""
        if "labels" not in example:
            raise InvalidInput(
                "An example has no labels, and the loss scores the tokens of the target. Give targets, or "
                "predict_with_generate=True, which generates them."
            )
        return example

    def size(self, example: Example) -> int:
        return len(example["input_ids"]) + len(example["labels"])

    def count(self, batch: Sequence[Example]) -> float:
        return sum(int((np.asarray(example["labels"]) != IGNORED).sum()) for example in batch)

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        model = self.model
        source, target = (PackedSequences.of(batch, self.device, name) for name in ("input_ids", "labels"))
        ids = target.ids.masked_fill(target.ids == IGNORED, _pad_token(model.config))
        shifted = PackedSequences(model.architecture.shift_right(ids, target.runs, model.config), target.runs)
        hidden, context = decoder_states(model, source, shifted)
        loss = token_loss(model, hidden, target.ids, self.smoothing)
        return loss, split_sequences(model.head(hidden, context), target) if predict else None


class SpanObjective(Objective):
    """Extractive question answering: start and end token of an answer."""

    columns = ("input_ids", "start_positions", "end_positions")
    label_columns = ("start_positions", "end_positions")

    def count(self, batch: Sequence[Example]) -> float:
        return (
            sum(int(example[name]) < len(example["input_ids"]) for name in self.label_columns for example in batch) / 2
        )

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        tokens = PackedSequences.of(batch, self.device)
        scores = self.model.head(*hidden_states(self.model, tokens))
        loss = scores.new_zeros(())
        if self.has_labels(batch):
            starts, ends = (stack_column(batch, name, scores.device).long() for name in self.label_columns)
            loss = losses.span_loss(scores, tokens.runs, starts, ends)
        return loss, [(each[:, 0], each[:, 1]) for each in split_sequences(scores, tokens)] if predict else None

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [(int(example["start_positions"]), int(example["end_positions"])) for example in batch]


OBJECTIVES: Mapping[Any, type[Objective]] = {  # `postprocess` of a head type -> objective
    head_types.text_labels: SequenceLabelObjective,
    head_types.words: TokenLabelObjective,
    head_types.next_words: CausalLMObjective,
    head_types.spans: SpanObjective,
}


def objective_of(model: Any, smoothing: float = 0.0) -> Objective | None:
    """Build the objective of the model's head; None for heads and modules whose loss only their `forward` computes."""
    if not hasattr(model, "head_type"):
        return None
    if isinstance(model, SequenceToSequence) and model.head_type.auto == "AutoModelForSeq2SeqLM":
        return Seq2SeqObjective(model, smoothing)
    kind = OBJECTIVES.get(model.head_type.postprocess)
    if isinstance(model, SequenceToSequence) and kind is not SequenceLabelObjective:
        return None
    return kind(model, smoothing) if kind is not None else None


def balances_experts(config: Any) -> bool:
    """Return True if a language model's loss has a part that balances the load of experts over a whole batch."""
    return bool(getattr(config, "output_router_logits", False)) and hasattr(type(config), "router_aux_loss_coef")


def labeled_tokens(batch: Sequence[Example], device: torch.device) -> SelectedTokens:
    """Select the tokens that have a label."""
    marks = [np.asarray(example["labels"]) != IGNORED for example in batch]
    rows = torch.from_numpy(np.concatenate(marks).nonzero()[0]).to(device)
    return SelectedTokens(rows, SequenceLayout.packed(tuple(int(each.sum()) for each in marks)))


def token_loss(model: Any, hidden: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the sum of cross-entropies at hidden states (tokens, width) that have a label; others are not scored."""
    rows = (labels != IGNORED).nonzero()[:, 0]
    if len(rows) < len(labels):
        hidden, labels = hidden.index_select(0, rows), labels.index_select(0, rows)
    parameters = tuple(model.head.parameters())
    layer = getattr(model.head, "out", None)
    width = model.vocabulary if layer is None else layer.out_features
    return losses.chunked_cross_entropy(model.score_states, hidden, labels, parameters, smoothing, width)


def next_labels(labels: Any, device: torch.device) -> Tensor:
    """Return the label of the next token for each token (tokens,), -100 for the last token of a sequence."""
    shifted = [np.append(sequence[1:], IGNORED) for sequence in labels if len(sequence)]
    return torch.from_numpy(np.concatenate(shifted).astype(np.int64, copy=False)).to(device)


def split_sequences(scores: Tensor, tokens: PackedSequences) -> list[Any]:
    """Split scores (tokens, ...) into one array a sequence."""
    return [part.numpy() for part in scores.detach().float().cpu().split(tokens.runs.lengths)]


def _pad_token(config: Any) -> int:
    """Return the padding token id. Raises UnsupportedOption."""
    if config.pad_token_id is None:
        raise UnsupportedOption("The config has no pad_token_id, which replaces ignored labels in the decoder inputs.")
    return config.pad_token_id
