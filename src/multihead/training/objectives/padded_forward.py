"""What any model is trained for through its own `forward`, on padded batches that a collator makes."""

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
from ..data.collators import Collator
from ..data.tokenized import LABELS
from . import losses
from .packed_batch import length
from .token import Objective

Collate = Callable[[list[Any]], Mapping[str, Any]]
OWN_FORWARDS = (PreTrainedModel.forward, SequenceToSequence.forward)
CLASSES = (
    head_types.words,
    head_types.next_words,
    head_types.text_labels,
    None,
)  # kinds whose labels are classes, maybe


class Padded(Objective):
    """Any kind of model, through its own `forward` on a padded batch that a collator makes.

    Args:
        collate: from examples to the model's arguments. loss: computes the mean loss instead of the model, from the
            model, the batch, whether outputs are returned too, and the count that its sum is divided by.
        everything: gives the model the columns too that its `forward` does not take.
    """

    splits = False
    columns = answers = ()

    def __init__(
        self, model: Any, collate: Collate, loss: Callable[..., Any] | None = None, smoothing: float = 0.0, *,
        everything: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(model, smoothing)
        self._collate, self._loss = collate, loss
        self.labels = labels_of(model)
        self._taken = None if everything else taken_by(model)

    def collate(self, examples: Sequence[Any]) -> dict[str, Any]:
        """A caller's function sees the columns that `forward` takes, as with the reference; a `Collator` all of them.

        Raises:
            InvalidInput: examples of which `forward` takes nothing.
        """
        rows = [dict(example) if isinstance(example, Mapping) else example for example in examples]
        if not isinstance(self._collate, Collator):
            return self._placed(self._collate([self._known(row) for row in rows]))
        return self._placed(self._kept(self._collate(rows)))

    def _known(self, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        found = self._kept(row)
        if row and not found:
            raise InvalidInput(
                f"The forward of {type(self.model).__name__} takes none of {', '.join(row)}. Rename columns, or give "
                "remove_unused_columns=False, with which the collator gets all of them."
            )
        return found

    def _kept(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        taken = self._taken
        return {name: value for name, value in columns.items() if taken is None or name in taken}

    def _placed(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {name: x.to(self.device) if isinstance(x, Tensor) else x for name, x in batch.items()}

    def size(self, example: Any) -> int:
        return length(example["input_ids"]) if isinstance(example, Mapping) and "input_ids" in example else 1

    def labeled(self, batch: Mapping[str, Any]) -> bool:
        return any(batch.get(name) is not None for name in self.labels)

    def count(self, batch: Mapping[str, Any]) -> float:
        labels, postprocess = batch.get("labels"), postprocess_of(self.model)
        if labels is None or postprocess not in (head_types.words, head_types.next_words, head_types.detected):
            return len(batch["input_ids"] if "input_ids" in batch else next(iter(batch.values())))
        return int(((labels[:, 1:] if postprocess is head_types.next_words else labels) != IGNORED).sum())

    def told(self, features: Any = None) -> str:
        own = "a function given to the Trainer" if self._loss is not None else "the model's forward"
        return f"that of {own}" + (f", labels smoothed by {self.smoothing:g}" if self.smoothing else "")

    def forward(self, batch: Mapping[str, Any], predict: bool = False) -> tuple[Tensor, Any]:
        count, labeled = self.count(batch), self.labeled(batch)
        if self._loss is not None and (labeled or self.training):
            number = torch.tensor(count, device=self.device)
            found = self._loss(self.model, dict(batch), return_outputs=predict, num_items_in_batch=number)
            mean, outputs = found if isinstance(found, tuple) else (found, None)
        else:
            mean, outputs = mean_loss(self.model, batch, smoothing=self.smoothing, labeled=labeled or self.training)
        if mean is None and (labeled or self.training):
            raise InvalidInput(
                f"{type(self.model).__name__} learns from {' and '.join(self.labels)}; the batch has "
                f"{', '.join(batch)}, and its forward gave no loss."
            )
        loss = torch.zeros((), device=self.device) if mean is None else mean * count
        return loss, scores_of(outputs) if predict else None

    def targets(self, batch: Mapping[str, Any]) -> list[Any]:
        found = [batch[name].cpu().numpy() for name in self.labels if isinstance(batch.get(name), Tensor)]
        return list(zip(*found, strict=True)) if len(found) > 1 else list(found[0]) if found else []

    def inputs(self, batch: Mapping[str, Any]) -> list[Any]:
        name = getattr(self.model, "main_input_name", "input_ids")
        if not isinstance(batch.get(name), Tensor):
            raise UnsupportedOption(f"include_for_metrics 'inputs': the batch has {', '.join(batch)}, and no {name}.")
        return list(batch[name].cpu().numpy())


def is_own(model: Any) -> bool:
    """Whether a pass is what this library says of the model: neither its `forward` nor a hook on it is a caller's."""
    if not isinstance(model, PreTrainedModel):
        return True  # its parts are asked, as of a sentence encoder; or it has no objective but `Padded`
    plain = getattr(model.forward, "__func__", None) in OWN_FORWARDS
    return plain and not model._forward_hooks and not model._forward_pre_hooks


def postprocess_of(model: Any) -> Any:
    """What the model's kind makes of its head's numbers; None for a module that has no kind."""
    return model.head_type.postprocess if hasattr(model, "head_type") else None


def labels_of(model: Any) -> tuple[str, ...]:
    """The columns that a model learns from: those of its kind, else the arguments of `forward` that are named so."""
    if hasattr(model, "head_type"):
        return model.head_type.labels or ("labels",)
    named = [name for name in inspect.signature(model.forward).parameters if "label" in name]
    return tuple(named) or ("labels",)


def taken_by(model: Any) -> frozenset[str] | None:
    """The columns that a model's `forward` takes, labels too; None where it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    names = {each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    names |= {*labels_of(model), *LABELS}
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
    """The mean loss of a padded batch, None where it has none, and the model's outputs.

    Args:
        function: (outputs, labels, num_items_in_batch) -> loss, instead of the model's own. smoothing: of labels that
            are classes. count: what `function` may divide a sum by. labeled: whether a loss is wanted.
    """
    labels = batch.get("labels")
    if labeled and function is not None:
        decoded = isinstance(model, SequenceToSequence)  # its decoder reads them
        outputs = model(**{name: value for name, value in batch.items() if decoded or name != "labels"})
        return function(outputs, labels, num_items_in_batch=count), outputs
    outputs = model(**batch)
    if not labeled:
        return None, outputs
    scores = outputs.get("logits") if hasattr(outputs, "get") else getattr(outputs, "logits", None)
    if smoothing and labels is not None and scores is not None and _classes(model, labels):
        return _smoothed(model, scores, labels, smoothing), outputs
    return loss_of(outputs), outputs


def loss_of(outputs: Any) -> Any:
    """The loss that a model gives: under its name, or as the first of a tuple."""
    if isinstance(outputs, tuple):
        return outputs[0]
    return outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)


def _classes(model: Any, labels: Tensor) -> bool:
    return postprocess_of(model) in CLASSES and not labels.is_floating_point()


def _smoothed(model: Any, scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The mean cross-entropy at smoothed labels."""
    if postprocess_of(model) is head_types.next_words:
        scores, labels = scores[:, :-1], labels[:, 1:]
    total = losses.cross_entropy(scores.flatten(0, -2), labels.flatten(), smoothing)
    return total / (labels != IGNORED).sum().clamp(min=1)


def scores_of(outputs: Any) -> list[Any] | None:
    """A model's scores, an array an example, or a tuple of them where it gives several: what has a row an example."""
    if isinstance(outputs, (Tensor, tuple)):
        given = list(outputs) if isinstance(outputs, tuple) else [outputs]
    else:
        named = dict(outputs.items()) if hasattr(outputs, "items") else {}
        given = [each for name, each in named.items() if name.endswith("logits")] or list(named.values())
    given = [each for each in given if isinstance(each, Tensor) and each.ndim]
    found = [each.detach().float().cpu().numpy() for each in given]
    return list(zip(*found, strict=True)) if len(found) > 1 else list(found[0]) if found else None
