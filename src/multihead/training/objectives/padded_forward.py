"""Objective of any model that is trained through its own `forward`, on padded batches of a collator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InvalidInput, UnsupportedOption
from ...heads import head_types
from ...heads.losses import IGNORED
from ...modeling.pretrained import PreTrainedModel
from ...modeling.seq2seq import SequenceToSequence
from ...modeling.signatures import runs_code_of
from ..data.collators import Collator
from ..data.tokenized import LABEL_COLUMNS
from . import losses
from .packed_batch import token_count
from .token import Objective

Collate = Callable[[list[Any]], Mapping[str, Any]]
OWN_FORWARDS = (PreTrainedModel.forward, SequenceToSequence.forward)
CLASS_LABELS = (
    head_types.words,
    head_types.next_words,
    head_types.text_labels,
    None,
)  # heads whose labels may be classes


class PaddedObjective(Objective):
    """Training of any model through its own `forward` on a padded batch.

    Args:
        collate: makes the arguments of the model from examples. loss: computes the mean loss instead of the model;
            called as `loss(model, batch, return_outputs=..., num_items_in_batch=...)`.
        keep_columns: pass columns to the model that its `forward` does not take.
    """

    splittable = False
    columns = label_columns = ()

    def __init__(
        self, model: Any, collate: Collate, loss: Callable[..., Any] | None = None, smoothing: float = 0.0, *,
        keep_columns: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(model, smoothing)
        self._collate, self._loss = collate, loss
        self.labels = label_columns(model)
        self._accepted = None if keep_columns else accepted_columns(model)

    def collate(self, examples: Sequence[Any]) -> dict[str, Any]:
        """Make a batch. A custom function gets only the columns that `forward` takes, a `Collator` gets all columns.

        Raises:
            InvalidInput: `forward` takes no column of an example.
        """
        rows = [dict(example) if isinstance(example, Mapping) else example for example in examples]
        if not isinstance(self._collate, Collator):
            return self._to_device(self._collate([self._filter_example(row) for row in rows]))
        return self._to_device(self._filter(self._collate(rows)))

    def _filter_example(self, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        columns = self._filter(row)
        if row and not columns:
            raise InvalidInput(
                f"The forward of {type(self.model).__name__} takes none of {', '.join(row)}. Rename columns, or give "
                "remove_unused_columns=False, with which the collator gets all of them."
            )
        return columns

    def _filter(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        accepted = self._accepted
        return {name: value for name, value in columns.items() if accepted is None or name in accepted}

    def _to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {name: x.to(self.device) if isinstance(x, Tensor) else x for name, x in batch.items()}

    def size(self, example: Any) -> int:
        return token_count(example["input_ids"]) if isinstance(example, Mapping) and "input_ids" in example else 1

    def has_labels(self, batch: Mapping[str, Any]) -> bool:
        return any(batch.get(name) is not None for name in self.labels)

    def count(self, batch: Mapping[str, Any]) -> float:
        labels, postprocess = batch.get("labels"), head_postprocess(self.model)
        if labels is None or postprocess not in (head_types.words, head_types.next_words, head_types.detected):
            return len(batch["input_ids"] if "input_ids" in batch else next(iter(batch.values())))
        return int(((labels[:, 1:] if postprocess is head_types.next_words else labels) != IGNORED).sum())

    def describe(self, features: Any = None) -> str:
        source = "a function given to the Trainer" if self._loss is not None else "the model's forward"
        return f"that of {source}" + (f", labels smoothed by {self.smoothing:g}" if self.smoothing else "")

    def forward(self, batch: Mapping[str, Any], predict: bool = False) -> tuple[Tensor, Any]:
        count, labeled = self.count(batch), self.has_labels(batch)
        if self._loss is not None and (labeled or self.training):
            number = torch.tensor(count, device=self.device)
            result = self._loss(self.model, dict(batch), return_outputs=predict, num_items_in_batch=number)
            mean, outputs = result if isinstance(result, tuple) else (result, None)
        else:
            mean, outputs = mean_loss(self.model, batch, smoothing=self.smoothing, labeled=labeled or self.training)
        if mean is None and (labeled or self.training):
            raise InvalidInput(
                f"{type(self.model).__name__} learns from {' and '.join(self.labels)}; the batch has "
                f"{', '.join(batch)}, and its forward returned no loss."
            )
        loss = torch.zeros((), device=self.device) if mean is None else mean * count
        return loss, example_scores(outputs) if predict else None

    def targets(self, batch: Mapping[str, Any]) -> list[Any]:
        labels = [batch[name].cpu().numpy() for name in self.labels if isinstance(batch.get(name), Tensor)]
        return list(zip(*labels, strict=True)) if len(labels) > 1 else list(labels[0]) if labels else []

    def inputs(self, batch: Mapping[str, Any]) -> list[Any]:
        name = getattr(self.model, "main_input_name", "input_ids")
        if not isinstance(batch.get(name), Tensor):
            raise UnsupportedOption(f"include_for_metrics 'inputs': the batch has {', '.join(batch)}, and no {name}.")
        return list(batch[name].cpu().numpy())


def has_own_forward(model: Any) -> bool:
    """Return whether a model runs this library's `forward`, without an override or a forward hook of the user."""
    if not isinstance(model, PreTrainedModel):
        return True  # a sentence encoder runs its model's parts; other modules use `PaddedObjective` anyway
    plain = runs_code_of(getattr(model.forward, "__func__", None), OWN_FORWARDS)
    return plain and not model._forward_hooks and not model._forward_pre_hooks


def head_postprocess(model: Any) -> Any:
    """Return the `postprocess` function of the model's head type; None for a module without a head type."""
    return model.head_type.postprocess if hasattr(model, "head_type") else None


def label_columns(model: Any) -> tuple[str, ...]:
    """Return the label columns of a model: those of its head type, or the arguments of `forward` with such a name."""
    if hasattr(model, "head_type"):
        return model.head_type.labels or ("labels",)
    named = [name for name in inspect.signature(model.forward).parameters if "label" in name]
    return tuple(named) or ("labels",)


def accepted_columns(model: Any) -> frozenset[str] | None:
    """Return the columns that a model's `forward` takes, labels included; None if it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    names = {each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    names |= {*label_columns(model), *LABEL_COLUMNS}
    if not isinstance(model, PreTrainedModel):
        return None if any(each.kind is each.VAR_KEYWORD for each in parameters) else frozenset(names)
    base = SequenceToSequence if isinstance(model, SequenceToSequence) else PreTrainedModel
    names |= inspect.signature(base.forward).parameters.keys() - {"self", "more"}
    untyped = set() if getattr(model.backbone, "typed", False) else {"token_type_ids"}
    return frozenset(names - untyped | {*model.architecture.inputs})


def mean_loss(
    model: nn.Module, batch: Mapping[str, Any], function: Callable[..., Any] | None = None, smoothing: float = 0.0,
    count: Any = None, *, labeled: bool = True,
) -> tuple[Any, Any]:  # fmt: skip
    """Return the mean loss of a padded batch (None without labels) and the outputs of the model.

    Args:
        function: (outputs, labels, num_items_in_batch) -> loss, replaces the model's loss. smoothing: label smoothing
            of classes. count: `num_items_in_batch`. labeled: compute a loss.
    """
    labels = batch.get("labels")
    if labeled and function is not None:
        decoder = isinstance(model, SequenceToSequence)  # builds the decoder inputs from the labels
        outputs = model(**{name: value for name, value in batch.items() if decoder or name != "labels"})
        return function(outputs, labels, num_items_in_batch=count), outputs
    outputs = model(**batch)
    if not labeled:
        return None, outputs
    scores = outputs.get("logits") if hasattr(outputs, "get") else getattr(outputs, "logits", None)
    if smoothing and labels is not None and scores is not None and _has_class_labels(model, labels):
        return _smoothed_loss(model, scores, labels, smoothing), outputs
    return loss_of(outputs), outputs


def loss_of(outputs: Any) -> Any:
    """Return the loss in a model's outputs: the entry `loss`, or the first item of a tuple."""
    if isinstance(outputs, tuple):
        return outputs[0]
    return outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)


def _has_class_labels(model: Any, labels: Tensor) -> bool:
    return head_postprocess(model) in CLASS_LABELS and not labels.is_floating_point()


def _smoothed_loss(model: Any, scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the mean cross-entropy with label smoothing."""
    if head_postprocess(model) is head_types.next_words:
        scores, labels = scores[:, :-1], labels[:, 1:]
    total = losses.cross_entropy(scores.flatten(0, -2), labels.flatten(), smoothing)
    return total / (labels != IGNORED).sum().clamp(min=1)


def example_scores(outputs: Any) -> list[Any] | None:
    """Return the scores in a model's outputs, one array an example, or a tuple of arrays for several outputs."""
    if isinstance(outputs, (Tensor, tuple)):
        values = list(outputs) if isinstance(outputs, tuple) else [outputs]
    else:
        named = dict(outputs.items()) if hasattr(outputs, "items") else {}
        values = [value for name, value in named.items() if name.endswith("logits")] or list(named.values())
    tensors = [value for value in values if isinstance(value, Tensor) and value.ndim]
    arrays = [tensor.detach().float().cpu().numpy() for tensor in tensors]
    return list(zip(*arrays, strict=True)) if len(arrays) > 1 else list(arrays[0]) if arrays else None
